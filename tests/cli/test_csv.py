"""Every command that prints a table prints it as CSV too, with the columns of its JSON."""

import csv
import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO
from typing import Any, cast

import pytest
import typer
from tallybook.application import AcceptancePolicy, Metering, Outbox, outbox_sql
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.interfaces.cli.app import app
from tallybook.application.interfaces.cli.csv_output import KEY_PREFIXES
from tallybook.application.spreadsheet_text import unescape_formulas
from typer.core import TyperGroup

from .command_line import CommandLine

MONTH = ("--period", "2025-10")
TABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "access keys": (("key", "list"), ""),
    "adjustments": (("period", "adjustments", "tokens"), ""),
    "archive totals": (("archive", "totals", "tokens", "ARCHIVE", *MONTH), ""),
    "billing run": (("period", "run", "--period", "2025-09"), "run.meters"),
    "billing runs": (("period", "runs"), ""),
    "bulk cancellation": (("cancel-many", "tokens", "--customer", "acme", "--any-age"), "previews"),
    "bulk cancellations": (("cancellation", "list"), ""),
    "checkpoints": (("checkpoint", "list"), ""),
    "changed events": (("compare", "tokens", "+1-800", *MONTH, "--since", "1"), "events"),
    "closed period": (("period", "close", "tokens", "+1-800", *MONTH), "period"),
    "closed periods": (("period", "list", "tokens"), ""),
    "closing": (("period", "close", "tokens", "+1-800", *MONTH, "--dry-run"), ""),
    "dry run": (("import", "FILE", "--dry-run", "--backfill"), "usage.tokens"),
    "events": (("events", "tokens", *MONTH), ""),
    "explanation": (("explain", "tokens", "+1-800", *MONTH), "events"),
    "generation": (("projection", "diff", "2"), "differences"),
    "generations": (("projection", "status"), ""),
    "history": (("history",), "entries"),
    "imports": (("import", "--list"), ""),
    "import": (("import", "--undo", "RUN", "--any-age"), "previews"),
    "invoice lines": (("invoice-lines", *MONTH), "lines"),
    "meters": (("meter", "list"), ""),
    "proposals": (("proposal", "list"), ""),
    "revisions": (("meter", "history", "tokens"), ""),
    "rows of an outbox": (("outbox", "rejected", "--outbox", "OUTBOX"), ""),
    "rule change": (("rules", "change", "tokens", "--formula", "count"), "difference.differences"),
    "status": (("period", "status", *MONTH), "meters"),
    "summaries": (("summaries", "tokens", *MONTH), ""),
    "total": (("total", "tokens", "+1-800", *MONTH, "--group-by", "region"), "groups"),
    "totals": (("totals", "tokens", *MONTH), ""),
    "totals of groups": (("totals", "tokens", *MONTH, "--group-by", "region"), "groups"),
    "verification": (("verify",), "tables"),
    "verification of a projection": (("projection", "verify"), "tables"),
}
"""A command for each table, and where the rows are in its JSON."""
WITHOUT_TABLE = {
    "archive export", "archive materialize", "archive prune", "archive pruned", "archive register", "archive sql",
    "archive verify", "backup", "cancel", "cancellation resume",
    "cancellation revoke", "checkpoint create", "checkpoint key", "checkpoint prove", "checkpoint prove-consistency",
    "checkpoint publish", "checkpoint verify-consistency", "checkpoint verify-proof", "console", "consume", "copy",
    "demo", "evidence", "jobs forget", "jobs pause", "jobs resume", "key create", "key revoke",
    "meter configure", "meter deactivate", "meter reactivate", "meter rename", "meter show", "outbox drop",
    "outbox lag", "outbox retry", "outbox schema", "period reopen", "period settle", "projection drop",
    "projection promote", "projection rebuild", "projection run", "proposal approve", "proposal policy",
    "proposal reject", "proposal require", "proposal show", "propose cancellation", "propose policy",
    "propose reopening", "propose revocation", "propose rules", "record", "relay", "serve",
}  # fmt: skip
TABLES_OF_OTHER_TESTS = {"topic lag", "topic rejected"}
"""Commands with a table that needs a broker: see tests/topics."""
MISSING = {"explanation": {"event_name", "payload", "unique_value"}, "invoice lines": {"event_name"}}
"""What these two formats, which are those of Python functions, leave out or name `meter`."""


@pytest.fixture(scope="module")
def tallybook(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Return a ledger in which each table has a row, with names that are formulas."""
    folder = tmp_path_factory.mktemp("csv")
    line = CommandLine(folder)
    policy = AcceptancePolicy(max_age=None, cancel_window=None)
    events = [("=cmd()", "+1-800", "-5", "=1", 5), ("@e-2", "acme", "7", "eu", 6), ("e-3", "acme", "8", "eu", 6)]
    with Metering.open(line.url, policy=policy, clock=lambda: datetime(2025, 11, 22, tzinfo=UTC)) as metering:
        metering.meters.configure(
            "tokens", customer_key="customer", value_key="tokens", optional_dimension_keys=["region"]
        )
        for identifier, customer, tokens, region, day in events:
            payload = {"customer": customer, "tokens": tokens, "region": region}
            at = datetime(2025, 10, day, tzinfo=UTC)
            metering.record("tokens", payload, identifier=identifier, timestamp=at)
        october = datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)
        metering.periods.close("tokens", "+1-800", *october, group_by=["region"])
        metering.periods.run(*october)
        metering.cancellations.cancel_many("tokens", identifier_prefix="e-3", reason="-wrong", by="ops")
        metering.access_keys.create(["read", "record"], "=key")
        metering.proposals.propose_reopening("tokens", "+1-800", *october, reason="=why", by="ops")
        metering.generations.build_candidate("tokens", {"formula": "count"})
        metering.archive.export(folder / "archive")
        PrivateKey.generate(folder / "key.pem", "tallybook")
        metering.checkpoints.publish(folder / "key.pem", [])
        url = f"sqlite:///{folder / 'outbox.db'}"
        with closing(sqlite3.connect(folder / "outbox.db")) as host, Outbox(metering, url) as outbox:
            host.executescript(";".join(outbox_sql("sqlite")))
            outbox.record(host, "tokens", {"customer": "acme"}, identifier="=o-1")
            host.commit()
            outbox.relay()
    file = line.write("usage.csv", "identifier,timestamp,event_name,payload_customer,payload_tokens\n"
                      "f-1,2025-10-07T00:00:00Z,tokens,=HYPERLINK(),9\n")  # fmt: skip
    line.run("import", file, "--backfill")
    line.write("new.csv", file.read_text().replace("f-1", "f-2"))
    return line


def arguments(line: CommandLine, command: tuple[str, ...]) -> list[str]:
    """Return the arguments of a command with the names of the ledger's files."""
    names = {
        "ARCHIVE": str(line.folder / "archive"), "FILE": str(line.folder / "new.csv"),
        "OUTBOX": f"sqlite:///{line.folder / 'outbox.db'}",
    }  # fmt: skip
    if "RUN" in command:
        names["RUN"] = line.run_json("import", "--list")[0]["run_id"]
    return [names.get(argument, argument) for argument in command]


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, and another value as the only item of one."""
    return value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]


def missing_columns(row: dict[str, Any], columns: Collection[str], path: str = "") -> Iterator[str]:
    """Yield the names in a JSON object that have no column. Lists of objects have none, and may be empty."""
    for name, value in row.items():
        column = path + name
        if column in columns or value == [] or (isinstance(value, list) and isinstance(value[0], dict)):
            continue
        if name in KEY_PREFIXES:
            yield from {KEY_PREFIXES[name] + key for key in cast("dict[str, str]", value)} - {*columns}
        elif isinstance(value, dict):
            yield from missing_columns(cast("dict[str, Any]", value), columns, f"{column}.")
        elif value is not None or not any(other.startswith(f"{column}.") for other in columns):
            yield column


@pytest.mark.parametrize("table", TABLES)
def test_the_csv_has_the_rows_and_the_columns_of_the_json(tallybook: CommandLine, table: str) -> None:
    """The first row has the same values; text that a spreadsheet evaluates is escaped."""
    command, path = TABLES[table]
    run = arguments(tallybook, command)
    assert "───" in tallybook.run(*run).stdout
    result: Any = tallybook.run_json(*run)
    rows: list[dict[str, Any]] = as_list(result)
    for name in path.split(".") if path else ():
        rows = [part for row in rows for part in as_list(row[name])]
    text = tallybook.run(*run, "--csv").stdout
    printed = list(csv.DictReader(StringIO(text)))
    assert printed
    missing = {name.partition("_")[0] if name.startswith("payload_") else name
               for name in missing_columns(rows[0], printed[0])}  # fmt: skip
    assert missing == MISSING.get(table, set())
    for name, cell in printed[0].items():
        assert not cell.startswith(("=", "@", "+")), (name, cell)
        value = rows[0].get(name)
        if isinstance(value, str):
            assert unescape_formulas(cell) == value, name


def test_every_command_prints_its_table_as_csv_too() -> None:
    """A new command is in one of the two lists; those with a table have both options."""
    root = cast(TyperGroup, typer.main.get_command(app))
    commands = dict(leaves(root, ""))
    with_table = {
        name
        for name in commands
        if any(f"{' '.join(command)} ".startswith(f"{name} ") for command, _ in TABLES.values())
    }
    with_table |= TABLES_OF_OTHER_TESTS
    assert commands.keys() == with_table | WITHOUT_TABLE
    for name in with_table:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {"--csv", "--json"} <= options, name


def leaves(group: TyperGroup, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the commands of a group by their names."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_an_empty_table_has_a_header(tallybook: CommandLine) -> None:
    """The columns don't depend on the rows, except for keys of dimensions and payloads."""
    empty = tallybook.run("totals", "tokens", "--period", "2020-01", "--csv").stdout.splitlines()
    full = tallybook.run("totals", "tokens", *MONTH, "--csv").stdout.splitlines()
    assert empty == full[:1] != full
    assert empty[0].split(",")[:3] == ["value", "sum", "count"]


def test_rows_that_a_limit_leaves_out_are_counted_on_stderr(tallybook: CommandLine) -> None:
    """Stdout has the CSV only."""
    result = tallybook.run("projection", "diff", "2", "--limit", "1", "--csv")
    assert len(result.stdout.splitlines()) == 2
    assert "smaller difference" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("totals", "tokens", "--csv", "--json"),
        ("explain", "tokens", "--csv", "--json"),
        ("period", "adjustments", "--csv", "--events"),
        ("import", "usage.csv", "--csv"),
    ],
    ids=" ".join,
)
def test_options_that_exclude_csv_are_named(tallybook: CommandLine, command: tuple[str, ...]) -> None:
    """They are a usage error."""
    assert "--csv" in tallybook.run(*command, status=2).stderr


def test_numbers_and_times_are_exact(tallybook: CommandLine) -> None:
    """Numbers have no separators and are never escaped; times are RFC 3339 in UTC."""
    rows = list(csv.DictReader(StringIO(tallybook.run("events", "tokens", *MONTH, "--csv").stdout)))
    first = rows[0]
    assert (first["value"], first["occurred_at"]) == ("-5", "2025-10-05T00:00:00Z")
    assert (first["identifier"], first["customer"], first["dimension_region"]) == ("'=cmd()", "'+1-800", "'=1")
    assert (first["payload_tokens"], first["cancelled_at"]) == ("'-5", "")
    assert json.loads(tallybook.run("events", "tokens", *MONTH, "--json").stdout)[0]["customer"] == "+1-800"
