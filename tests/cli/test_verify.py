"""The command `verify`, which compares the read models and closed periods with a fresh fold of the ledger."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger

BUCKET = "meter tokens, bucket_seconds {}, start {}, customer {}"


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Close October for both customers; the last event is at position 8."""
    line = october_ledger(tmp_path)
    for customer in ("acme", "zeta"):
        line.run("period", "close", "tokens", customer, *OCTOBER)
    return line


def corrupt(file: Path, statement: str) -> None:
    """Change one cell without the application."""
    with closing(sqlite3.connect(file)) as database, database:
        assert database.execute(statement).rowcount == 1


def test_equal_read_models_are_reported_table_by_table(tallybook: CommandLine) -> None:
    """The text has the rows and the start of each SHA-256, the JSON all of it. `projection verify` is the same."""
    lines = tallybook.lines("verify")
    assert lines[0] == "Generation 1, up to position 8 of the ledger"
    assert [line.split()[:2] for line in lines[3:9]] == [
        ["meters", "1"], ["customers", "2"], ["usage", "5"], ["totals", "7"], ["high_water_marks", "0"],
        ["generations", "3"],
    ]  # fmt: skip
    assert all(line.endswith(" equal") for line in lines[3:9])
    assert lines[9:] == ["2 closed periods, none differs"]
    assert tallybook.lines("projection", "verify") == lines
    verification = tallybook.run_json("verify")
    assert (verification["is_equal"], verification["closed_periods"], verification["differing_periods"]) == (
        True,
        2,
        [],
    )
    assert [table["table"] for table in verification["tables"]] == [
        "meters",
        "customers",
        "usage",
        "totals",
        "high_water_marks",
        "generations",
    ]
    assert all(len(table["digest"]) == 64 and table["is_equal"] for table in verification["tables"])


@pytest.mark.parametrize(
    ("statement", "table", "key", "actual", "expected"),
    [
        (
            "UPDATE totals_1 SET sum = '26' WHERE customer = 1 AND bucket_seconds = 86400 AND sum = '-5'",
            "totals", BUCKET.format(86400, "2025-10-07T00:00:00Z", "acme"), '["26",', '["-5",',
        ),
        (
            "DELETE FROM totals_1 WHERE customer = 2 AND bucket_seconds = 86400 AND sum = '11'",
            "totals", BUCKET.format(86400, "2025-09-30T00:00:00Z", "zeta"), None, '["11",',
        ),
        (
            "UPDATE usage_1 SET usages = x'00' WHERE customer = 1 AND first_position = 4",
            "usage", "meter tokens, customer acme, start 2025-10-07T00:00:00Z, position 4", "unreadable", "[1,",
        ),
        (
            "UPDATE usage_1 SET customer = 99 WHERE first_position = 4",
            "usage", "meter tokens, customer acme, start 2025-10-07T00:00:00Z, position 4", None, "[1,",
        ),
        ("UPDATE customers_1 SET name = 'x' WHERE customer = 1", "customers", "customer acme", '["x"]', '["acme"]'),
        ("UPDATE meters_1 SET event_name = 'toks'", "meters", "meter tokens", '["toks",', '["tokens",'),
        (
            "UPDATE meters_1 SET rules = replace(rules, 'sum', 'count')",
            "meters", "meter tokens", '["tokens",', '["tokens",',
        ),
        (
            "UPDATE meters_1 SET history = replace(history, '[[1,', '[[2,')",
            "meters", "meter tokens", '["tokens",', '["tokens",',
        ),
    ],
)  # fmt: skip
def test_one_changed_cell_is_located(
    tallybook: CommandLine, statement: str, table: str, key: str, actual: str | None, expected: str
) -> None:
    """The exit status is 1; the output has the table, the first different key, and the actual and expected row."""
    corrupt(tallybook.read_models_file, statement)
    verification = tallybook.run_json("verify", status=1)
    difference, *others = [one["difference"] for one in verification["tables"] if one["difference"]]
    assert {one["table"] for one in others} <= {"generations"}, (
        "only the pinned rules of generations contain event names"
    )
    assert (difference["table"], difference["key"].startswith(key)) == (table, True), difference["key"]
    assert (difference["found"] or "").startswith(actual or "")
    assert (difference["found"] is None) == (actual is None)
    assert difference["expected"].startswith(expected)

    stdout = tallybook.run("verify", status=1).stdout
    assert f"\n{table} differs first at {key}" in stdout
    assert f"\n  found     {actual or 'no such row'}" in stdout
    assert f"\n  expected  {expected}" in stdout
    assert stdout.count("DIFFERS") == 1 + len(others)
    assert stdout.count(" equal\n") == 5 - len(others)
    assert "'tallybook projection rebuild' to build the read models again" in stdout


def test_a_corrupted_generation_is_replaced_by_a_rebuilt_one(tallybook: CommandLine) -> None:
    """`verify` suggests the rebuild."""
    corrupt(tallybook.read_models_file, "UPDATE customers_1 SET name = 'acmf' WHERE customer = 1")
    tallybook.run("verify", status=1)
    tallybook.run("projection", "rebuild")
    tallybook.run("projection", "promote", 2)
    tallybook.run("verify")


def test_unreadable_meter_rules_are_an_error_before_any_comparison(tallybook: CommandLine) -> None:
    """The error names the file to delete, and the read models are rebuilt after that."""
    read_models_file = tallybook.read_models_file
    corrupt(read_models_file, "UPDATE meters_1 SET rules = 'nothing'")
    assert tallybook.run_error("verify")[0] == "ledger_unavailable"
    assert "Delete their file (.read-models)" in tallybook.run("verify", status=1).stderr
    for suffix in ("", "-wal", "-shm"):
        Path(f"{read_models_file}{suffix}").unlink(missing_ok=True)
    tallybook.run("verify")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tracking SET notification_id = 3",
        "UPDATE tracking SET notification_id = 800",
        "UPDATE generations SET ledger_fingerprint = 'another'",
    ],
)
def test_a_corrupted_position_resets_the_read_models(tallybook: CommandLine, statement: str) -> None:
    """Read models with a position or fingerprint that doesn't match the ledger are rebuilt, so nothing differs."""
    corrupt(tallybook.read_models_file, statement)
    verification = tallybook.run_json("verify")
    assert (verification["is_equal"], verification["position"]) == (True, 8)


def test_a_tampered_closed_period_is_reported(tallybook: CommandLine) -> None:
    """The output has the frozen and the expected total. The test drops the triggers to change the event."""
    with closing(sqlite3.connect(tallybook.ledger_file)) as ledger, ledger:
        for (trigger,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            ledger.execute(f"DROP TRIGGER {trigger}")
        (state,) = ledger.execute("SELECT state FROM stored_events WHERE position = 7").fetchone()
        closed = json.loads(state)
        ledger.execute(
            "UPDATE stored_events SET state = ? WHERE position = 7",
            (json.dumps({**closed, "quantity": "3021"}, separators=(",", ":")).encode(),),
        )
    verification = tallybook.run_json("verify", status=1)
    (differing,) = verification["differing_periods"]
    assert (differing["period"]["quantity"], differing["expected"]["quantity"]) == ("3021", "3020")
    stdout = tallybook.run("verify", status=1).stdout
    assert "2 closed periods, 1 differs" in stdout
    assert "The closed period 2025-10 (UTC) of acme on tokens differs" in stdout
    assert "  frozen    3,021 of 3 events, SHA-256 " in stdout
    assert "  expected  3,020 of 3 events, SHA-256 " in stdout


def test_a_tampered_billing_run_is_reported(tallybook: CommandLine) -> None:
    """The output has the stored and the expected control total."""
    tallybook.run("period", "run", *OCTOBER)
    assert tallybook.lines("verify")[-1] == "1 billing run, none differs"
    with closing(sqlite3.connect(tallybook.ledger_file)) as ledger, ledger:
        for (trigger,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            ledger.execute(f"DROP TRIGGER {trigger}")
        ledger.execute(
            "UPDATE stored_events SET state = CAST(replace(state, '\"customers\":2', '\"customers\":9') AS BLOB)"
            " WHERE topic = 'BillingRunClosed'"
        )
    stdout = tallybook.run("verify", status=1).stdout
    assert "1 billing run, 1 differs" in stdout
    assert "The control total of billing run 1 on tokens differs" in stdout
    assert "  found     customers 9, closed_before 2, " in stdout
    assert "  expected  customers 2, closed_before 2, " in stdout
