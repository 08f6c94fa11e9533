"""The commands `relay` and `outbox`, and `projection run` with an outbox."""

import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from tallybook.application import Metering, Outbox

from tests.preloaded.program import Program

from ..waiting import wait_until
from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Return a command line with an outbox: the ledger accepts two of its rows, and rejects one."""
    tallybook = CommandLine(tmp_path)
    tallybook.environment["TALLYBOOK_OUTBOX"] = f"sqlite:///{tmp_path / 'shop.db'}"
    tallybook.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.executescript(tallybook.run("outbox", "schema", "--dialect", "sqlite").stdout)
    record(tallybook, "a", "b")
    record(tallybook, "early", event_name="images")
    return tallybook


def record(tallybook: CommandLine, *identifiers: str, event_name: str = "tokens") -> None:
    """Record usage in a transaction of a host."""
    with (
        Metering.open(tallybook.url) as metering,
        closing(sqlite3.connect(tallybook.folder / "shop.db")) as connection,
        connection,
    ):
        payload = {"customer": "acme", "tokens": "5"}
        events = [
            {"event_name": event_name, "payload": payload, "identifier": identifier} for identifier in identifiers
        ]
        Outbox(metering).record_many(connection, events)


def test_relaying_once(tallybook: CommandLine) -> None:
    """The exit status is that of an error while rows are rejected."""
    lag = tallybook.run_json("outbox", "lag")
    assert (lag["waiting"], lag["rejected"], lag["age_seconds"] >= 0) == (3, 0, True)
    assert tallybook.lines("outbox", "lag")[0].split()[:3] == ["waiting", "3", "since"]
    relayed = tallybook.run_json("relay", "--once", status=1)
    assert relayed == {"recorded": 2, "duplicates": 0, "rejected": 1}
    assert tallybook.lines("relay", "--once") == ["relayed: 0 recorded, 0 duplicates, 0 rejected"]
    assert tallybook.run_json("total", "tokens")["value"] == "10"


def test_rejected_rows_are_listed_retried_and_dropped(tallybook: CommandLine) -> None:
    """Each with its id, which the other commands take."""
    assert tallybook.lines("outbox", "rejected") == ["No rejected rows."]
    tallybook.run("relay", "--once", status=1)
    (row,) = tallybook.run_json("outbox", "rejected")
    assert (row["id"], row["identifier"], row["code"], row["payload"]["tokens"]) == (3, "early", "no_meter", "5")
    assert "no_meter" in tallybook.run("outbox", "rejected").stdout
    assert tallybook.lines("outbox", "retry", 3) == ["waiting: 1 row"]
    tallybook.run("relay", "--once", status=1)
    assert tallybook.run_json("outbox", "retry") == {"waiting": 1}
    assert tallybook.lines("outbox", "drop", 3) == ["dropped: 0 rows"]
    tallybook.run("relay", "--once", status=1)
    assert tallybook.run_json("outbox", "drop", 3) == {"dropped": 1}


def test_the_schema_is_printed_for_each_dialect(tallybook: CommandLine) -> None:
    """The table can have another name, in a schema."""
    printed = tallybook.run("outbox", "schema", "--dialect", "postgresql", "--table", "shop.usage").stdout
    assert 'CREATE TABLE IF NOT EXISTS "shop"."usage"' in printed
    assert 'CREATE INDEX IF NOT EXISTS "usage_waiting" ON "shop"."usage"' in printed
    assert tallybook.run_error("outbox", "schema", "--dialect", "mysql") == ("parameter_invalid", "dialect")
    assert tallybook.run_error("outbox", "schema", "--dialect", "sqlite", "--table", "a;b") == (
        "parameter_invalid", "table",
    )  # fmt: skip


def test_a_missing_table_is_an_error_that_says_how_to_create_it(tallybook: CommandLine) -> None:
    """So is a missing file, and a URL that can't be relayed from."""
    error = tallybook.run_error_json("relay", "--once", "--table", "other")
    assert error["code"] == "ledger_unavailable"
    assert "tallybook outbox schema --dialect sqlite" in error["message"]
    for url, code in (
        (f"sqlite:///{tallybook.folder}/missing.db", "ledger_unavailable"),
        ("sqlite://", "invalid_ledger_url"),
        ("postgresql://user@host/shop?schema=shop", "invalid_ledger_url"),
    ):
        assert tallybook.run_error("outbox", "lag", "--outbox", url) == (code, "url")
    assert not (tallybook.folder / "missing.db").exists()


@pytest.mark.parametrize("command", [("relay",), ("projection", "run")])
def test_commands_that_run_until_they_are_stopped(tallybook: CommandLine, command: tuple[str, ...]) -> None:
    """They relay rows that are committed while they run, and end with SIGTERM."""
    environment = {key: value for key, value in tallybook.environment.items() if key != "COLUMNS"}
    program = Program(
        "tallybook", *command, "--json", folder=tallybook.folder, environment=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with program:
        wait_until(lambda: tallybook.run_json("outbox", "lag")["waiting"] == 0)
        record(tallybook, "c")
        wait_until(lambda: tallybook.run_json("outbox", "lag")["waiting"] == 0)
        program.send_signal(signal.SIGTERM)
        _, stderr = program.communicate()
    assert (program.returncode, stderr) == (0, "")
    jobs = [job["name"] for job in tallybook.run_json("jobs")]
    assert jobs == (["projection", "relay"] if command[0] == "projection" else [])
    assert tallybook.run_json("total", "tokens")["value"] == "15"
