"""The command that compares all figures with a fresh fold of the ledger."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .command_line import CommandLine
from .history import OCTOBER, october

BUCKET = "meter tokens, bucket_seconds {}, start {}, customer {}"


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """October closed for all, so that the last event is at position 8."""
    line = october(tmp_path)
    line.run("period", "close", "tokens", "--all", *OCTOBER)
    return line


def damage(file: Path, statement: str) -> None:
    """Change one cell behind the ledger's back."""
    with closing(sqlite3.connect(file)) as database, database:
        assert database.execute(statement).rowcount == 1


def test_equal_read_models_are_told_table_by_table(tallybook: CommandLine) -> None:
    """Rows and the start of each SHA-256; JSON has it whole. `projection verify` is the same."""
    lines = tallybook.lines("verify")
    assert lines[0] == "Generation 1, up to position 8 of the ledger"
    assert [line.split()[:2] for line in lines[3:8]] == [
        ["meters", "1"], ["customers", "2"], ["usage", "5"], ["totals", "4"], ["generations", "2"],
    ]  # fmt: skip
    assert all(line.endswith(" equal") for line in lines[3:8])
    assert lines[8:] == ["2 closed periods, none differs"]
    assert tallybook.lines("projection", "verify") == lines
    answer = tallybook.answer("verify")
    assert (answer["is_equal"], answer["closed_periods"], answer["differing_periods"]) == (True, 2, [])
    assert [table["table"] for table in answer["tables"]] == ["meters", "customers", "usage", "totals", "generations"]
    assert all(len(table["digest"]) == 64 and table["is_equal"] for table in answer["tables"])


@pytest.mark.parametrize(
    ("statement", "table", "key", "found", "expected"),
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
    tallybook: CommandLine, statement: str, table: str, key: str, found: str | None, expected: str
) -> None:
    """Exit status 1, the table, the first key that differs, and what is there and should be."""
    damage(tallybook.views_file, statement)
    answer = tallybook.answer("verify", status=1)
    difference, *others = [one["difference"] for one in answer["tables"] if one["difference"]]
    assert {one["table"] for one in others} <= {"generations"}, "its rules are told by the meters' names"
    assert (difference["table"], difference["key"].startswith(key)) == (table, True), difference["key"]
    assert (difference["found"] or "").startswith(found or "")
    assert (difference["found"] is None) == (found is None)
    assert difference["expected"].startswith(expected)

    shown = tallybook.run("verify", status=1).stdout
    assert f"\n{table} differs first at {key}" in shown
    assert f"\n  found     {found or 'no such row'}" in shown
    assert f"\n  expected  {expected}" in shown
    assert shown.count("DIFFERS") == 1 + len(others)
    assert shown.count(" equal\n") == 4 - len(others)
    assert "'tallybook projection rebuild' makes the read models again" in shown


def test_a_damaged_generation_is_replaced_by_a_rebuilt_one(tallybook: CommandLine) -> None:
    """As verify advises."""
    damage(tallybook.views_file, "UPDATE customers_1 SET name = 'acmf' WHERE customer = 1")
    tallybook.run("verify", status=1)
    tallybook.run("projection", "rebuild")
    tallybook.run("projection", "promote", 2)
    tallybook.run("verify")


def test_rules_of_a_meter_that_cannot_be_read_are_refused_before_anything_is_compared(tallybook: CommandLine) -> None:
    """No figure can be had from such read models: the refusal says what to delete, and they are made again."""
    place = tallybook.views_file
    damage(place, "UPDATE meters_1 SET rules = 'nothing'")
    assert tallybook.refusal("verify")[0] == "ledger_unavailable"
    assert "Delete their file (.views)" in tallybook.run("verify", status=1).stderr
    for suffix in ("", "-wal", "-shm"):
        Path(f"{place}{suffix}").unlink(missing_ok=True)
    tallybook.run("verify")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tracking SET notification_id = 3",
        "UPDATE tracking SET notification_id = 800",
        "UPDATE generations SET ledger_mark = 'another'",
    ],
)
def test_a_damaged_position_makes_the_read_models_begin_anew(tallybook: CommandLine, statement: str) -> None:
    """Position and mark must be those of an event in the ledger; so nothing is left that differs."""
    damage(tallybook.views_file, statement)
    answer = tallybook.answer("verify")
    assert (answer["is_equal"], answer["position"]) == (True, 8)


def test_a_closed_period_that_was_tampered_with_is_told(tallybook: CommandLine) -> None:
    """Its frozen figure is beside what the ledger gives for its position; someone had to drop the triggers for that."""
    with closing(sqlite3.connect(tallybook.ledger_file)) as ledger, ledger:
        for (trigger,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            ledger.execute(f"DROP TRIGGER {trigger}")
        (state,) = ledger.execute("SELECT state FROM stored_events WHERE position = 7").fetchone()
        closed = json.loads(state)
        ledger.execute(
            "UPDATE stored_events SET state = ? WHERE position = 7",
            (json.dumps({**closed, "quantity": "3021"}, separators=(",", ":")).encode(),),
        )
    answer = tallybook.answer("verify", status=1)
    (differing,) = answer["differing_periods"]
    assert (differing["period"]["quantity"], differing["expected"]["quantity"]) == ("3021", "3020")
    shown = tallybook.run("verify", status=1).stdout
    assert "2 closed periods, 1 differs" in shown
    assert "The closed period 2025-10 (UTC) of acme on tokens differs" in shown
    assert "  frozen    3,021 of 3 events, SHA-256 " in shown
    assert "  expected  3,020 of 3 events, SHA-256 " in shown
