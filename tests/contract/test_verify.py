"""Verifying finds any change of the read models, and says in which row."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from tallybook.application import Metering, TallybookError
from tallybook.domain import Meter
from tallybook.projections.rows import AsOf

from .histories import START, answers, record_history, report
from .stores import SQLiteFile, Store

Damage = Callable[..., None]
PERIOD = START, START.replace(day=20)


@pytest.fixture
def live(file_store: SQLiteFile) -> Iterator[Metering]:
    """A ledger with rules that changed, whose read models are as they should be, of the generation 2."""
    with file_store.metering() as metering:
        record_history(metering, 40)
        metering.change_rules("tokens", {"event_time_window": "day"}, reason="billed by day")
        assert metering.verify().is_equal
        yield metering


@pytest.fixture
def damage(file_store: SQLiteFile) -> Damage:
    """Changes one row of the read models past the application, while a program has them open."""

    def change(statement: str, *given: object) -> None:
        with closing(sqlite3.connect(file_store.place.views_database)) as connection:
            assert connection.execute(statement, given).rowcount == 1
            connection.commit()

    return change


def found(metering: Metering) -> list[str]:
    """What verifying finds, as "table: key"; or the code of the refusal that comes first."""
    try:
        verification = metering.verify()
    except TallybookError as refused:
        return [refused.code]
    assert not verification.is_equal
    differences = [one.difference for one in verification.tables if not one.is_equal]
    return [f"{one.table}: {one.key}" for one in differences if one is not None]


ONE_ROW = {
    "meters": "meter = 1",
    "customers": "customer = 1",
    "usage": "(meter, customer, start, dimensions, first_position) ="
    " (SELECT meter, customer, start, dimensions, first_position FROM usage_2 LIMIT 1)",
    "totals": "(meter, bucket_seconds, start, customer, dimensions) ="
    " (SELECT meter, bucket_seconds, start, customer, dimensions FROM totals_2 LIMIT 1)",
}
COLUMNS = [
    *(("meters", column) for column in ("meter", "event_name", "rules", "history")),
    *(("customers", column) for column in ("customer", "name")),
    *(("usage", column) for column in ("meter", "customer", "start", "dimensions", "first_position", "usages")),
    *(("totals", column) for column in ("meter", "bucket_seconds", "start", "customer", "dimensions")),
    *(("totals", column) for column in ("sum", "count", "last", "last_at", "last_position")),
]
BY_WORDS = {
    "meters": "meters: meter tokens",
    "customers": "customers: customer ",
    "usage": "usage: meter tokens, customer ",
    "totals": "totals: meter tokens, bucket_seconds 86400, start 2026-10-",
}


CHANGES = (
    (
        "CASE typeof({0}) WHEN 'integer' THEN {0} + 1 WHEN 'null' THEN 5"
        " WHEN 'text' THEN replace({0}, 'day', 'hour') || '1' ELSE zeroblob(3) END"
    ),
    "CASE typeof({0}) WHEN 'text' THEN 7 ELSE 'text' END",
    "x'ff00fe'",
    "NULL",
)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_one_changed_cell_is_found(
    live: Metering, file_store: SQLiteFile, damage: Damage, table: str, column: str
) -> None:
    """A little more, another type, garbage or nothing, in any column of any table: it is located, or the read models
    are refused as unreadable; never taken as right."""
    words = BY_WORDS[table] if column not in ("meter", "bucket_seconds", "start") else f"{table}: "
    with (
        closing(sqlite3.connect(file_store.place.views_database)) as views,
        closing(sqlite3.connect(":memory:")) as original,
    ):
        views.backup(original)
        for change in CHANGES:
            try:
                damage(f"UPDATE {table}_2 SET {column} = {change.format(column)} WHERE {ONE_ROW[table]}")
            except sqlite3.IntegrityError:
                continue  # the table itself refuses it
            said = found(live)
            assert said == ["ledger_unavailable"] or any(one.startswith(words) for one in said), change
            original.backup(views)


@pytest.mark.parametrize("number", range(8))
def test_one_changed_number_of_one_usage_is_found(
    live: Metering, file_store: SQLiteFile, damage: Damage, number: int
) -> None:
    """Customer, time, position, dimensions, value, and when it was recorded and cancelled, wherever it is packed."""
    with closing(sqlite3.connect(file_store.place.views_database)) as connection:
        (packed,) = connection.execute(f"SELECT usages FROM usage_2 WHERE {ONE_ROW['usage']}").fetchone()
    usages = msgspec.msgpack.decode(packed)
    is_text = isinstance(usages[0][number], str)
    usages[0][number] = "99" if is_text else (usages[0][number] or 0) + 1
    damage(f"UPDATE usage_2 SET usages = ? WHERE {ONE_ROW['usage']}", msgspec.msgpack.encode(usages))
    (said,) = found(live)
    assert said.startswith("usage: meter tokens, customer ")


@pytest.mark.parametrize("table", ONE_ROW)
def test_a_missing_row_is_found(live: Metering, damage: Damage, table: str) -> None:
    """With its key, in the words that it stands for."""
    damage(f"DELETE FROM {table}_2 WHERE {ONE_ROW[table]}")
    said = found(live)
    assert said == ["ledger_unavailable"] or any(one.startswith(BY_WORDS[table]) for one in said)


@pytest.mark.parametrize(
    "row",
    [
        "meters_2 SELECT 9, 'more', rules, history FROM meters_2 WHERE meter = 1",
        "customers_2 VALUES (900, 'nobody')",
        "usage_2 SELECT meter, 900, start, dimensions, first_position, usages FROM usage_2 LIMIT 1",
        "usage_2 SELECT meter, customer, start, dimensions, 0, x'90' FROM usage_2 LIMIT 1",
        "totals_2 SELECT meter, bucket_seconds, start, 900, dimensions, sum, count, last, 1, 1 FROM totals_2 LIMIT 1",
        "totals_2 VALUES (1, 3600, 'x', 1, '', '0', 0, NULL, NULL, NULL)",
    ],
)
def test_a_row_too_many_is_found(live: Metering, damage: Damage, row: str) -> None:
    """Also one that adds nothing to any figure."""
    damage(f"INSERT INTO {row}")
    table = row.partition("_")[0]
    assert any(one.startswith(f"{table}: ") for one in found(live))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE generations SET ledger_mark = 'x' WHERE generation = 2", "generations: column ledger_mark"),
        ("UPDATE generations SET ledger_mark = NULL WHERE generation = 2", "generations: column ledger_mark"),
        ("UPDATE generations SET pinned = '{}' WHERE generation = 2", "generations: column pinned, meter tokens"),
        ("UPDATE generations SET pinned = 'x' WHERE generation = 2", "generations: column pinned"),
        (
            "UPDATE generations SET pinned = replace(pinned, '\"sum\"', '\"last\"') WHERE generation = 2",
            "generations: column pinned, meter tokens",
        ),
        ("UPDATE tracking SET notification_id = 5 WHERE application_name = 'generation 2'", "ledger_unavailable"),
        ("DELETE FROM tracking WHERE application_name = 'generation 2'", "projection_stopped"),
        ("UPDATE tracking SET notification_id = 9000 WHERE application_name = 'generation 2'", "ledger_unavailable"),
    ],
)
def test_what_a_generation_says_of_itself_is_verified(
    live: Metering, damage: Damage, statement: str, expected: str
) -> None:
    """Its place in the ledger and the rules that it pins; where it can't be brought up to date, that is told."""
    damage(statement)
    assert found(live) == [expected]


@pytest.mark.parametrize("offset", [0, 20, 4_096, 8_192 + 100, 40_000])
def test_a_damaged_file_is_told(live: Metering, file_store: SQLiteFile, offset: int) -> None:
    """Bytes overwritten anywhere: what is damaged is refused or located; where nothing lay the rows are equal still."""
    before = answers(live)
    live.close()
    with Path(file_store.place.views_database).open("r+b") as file:
        assert file.seek(0, os.SEEK_END) > offset
        file.seek(offset)
        file.write(b"\xa5" * 64)
    with suppress(TallybookError), file_store.metering() as metering:
        verification = metering.verify()
        assert verification.is_equal == (answers(metering) == before)


def test_what_cannot_be_right_is_refused_with_what_to_do(live: Metering, damage: Damage) -> None:
    """Questions too: a cell that can't be read is told as such, and deleting the file mends it."""
    damage(f"UPDATE totals_2 SET count = 'many' WHERE {ONE_ROW['totals']}")
    with pytest.raises(TallybookError, match=r"Delete their file \(.views\)"):
        answers(live)
    damage(f"UPDATE totals_2 SET count = 1 WHERE {ONE_ROW['totals']}")
    damage("DELETE FROM customers_2 WHERE customer = 1")
    with pytest.raises(TallybookError, match=r"Delete their file \(.views\)"):
        answers(live)


def test_read_models_past_the_end_of_the_ledger_are_not_answered_from(live: Metering, damage: Damage) -> None:
    """A position that no event has yet would hide what is recorded from there on."""
    damage("UPDATE tracking SET notification_id = 9000 WHERE application_name = 'generation 2'")
    with pytest.raises(TallybookError, match="past the ledger's end"):
        answers(live)


def test_a_promotion_repairs(live: Metering, damage: Damage) -> None:
    """A generation that is built anew takes the place of a damaged one."""
    damage(f"UPDATE totals_2 SET sum = '1000000' WHERE {ONE_ROW['totals']}")
    assert found(live)
    live.promote(live.rebuild().number)
    assert live.verify().is_equal


def test_a_closed_period_is_verified(live: Metering) -> None:
    """Its frozen figures are those of its position and rules, also once rules changed and more came."""
    assert live.verify().closed_periods == 0
    live.close_period("seats", "acme", START, START.replace(day=9))
    live.change_rules("seats", {"formula": "sum"}, reason="a test")
    verification = live.verify()
    assert (verification.closed_periods, verification.is_equal) == (1, True)


def test_verifying_goes_on_while_usage_arrives(store: Store) -> None:
    """It compares at the position that it began at; what is recorded meanwhile changes nothing."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 40)

        def more(_: object) -> None:
            other.record_many([{"event_name": "tokens", "payload": {"customer": "new", "value": "1"}}])

        head = metering.catch_up()
        verification = metering.verify(more)
        assert (verification.is_equal, verification.position) == (True, head)
        assert metering.catch_up() > head


def test_rules_that_change_while_verifying_are_not_those_verified(
    file_store: SQLiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live generation is compared under the rules of the position that it stands at."""
    with file_store.metering() as metering, file_store.metering() as other:
        record_history(metering, 20)
        ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
        meters, once = ledger.meters, iter(["count"])

        def after_a_change(as_of: AsOf | None = None) -> Iterator[Meter]:
            for formula in once:
                other.change_rules("tokens", {"formula": formula}, reason="meanwhile")
            return meters(as_of)

        monkeypatch.setattr(ledger, "meters", after_a_change)
        assert metering.verify().is_equal
        assert metering.meter("tokens").revision == 2
        assert metering.verify().is_equal


def test_verifying_leaves_no_files_behind(live: Metering, file_store: SQLiteFile) -> None:
    """Neither when it is done nor when it fails."""
    folder = Path(file_store.place.views_database).parent
    before = sorted(folder.iterdir())

    def fail(_: object) -> None:
        assert len(list(folder.glob("*.scratch-*"))) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live.verify(fail)
    assert live.verify().is_equal
    assert sorted(folder.iterdir()) == before


KILLED = """
import os, signal, sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering:
    metering.verify(lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_verification_leaves_behind_is_removed_by_the_next(
    live: Metering, file_store: SQLiteFile
) -> None:
    """But not the folder of one that is still running."""
    folder = Path(file_store.place.views_database).parent
    url = f"sqlite:///{file_store.place.events_database}"
    killed = subprocess.run([sys.executable, "-c", KILLED, url], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folder.glob("*.scratch-*")

    def look(_: object) -> None:
        (mine,) = folder.glob("*.scratch-*")
        assert mine != left
        assert live.verify().is_equal
        assert list(folder.glob("*.scratch-*")) == [mine]

    assert live.verify(look).is_equal
    assert list(folder.glob("*.scratch-*")) == []


def test_a_ledger_that_lost_events_is_told(file_store: SQLiteFile) -> None:
    """Where a stored event is gone, by force, verifying tells rather than waits for it."""
    with file_store.metering() as metering:
        record_history(metering, 20)
        head = metering.catch_up()
        with closing(sqlite3.connect(file_store.place.events_database)) as connection:
            connection.execute("DROP TRIGGER stored_events_are_never_deleted")
            connection.execute("DELETE FROM stored_events WHERE position = ?", (head,))
            connection.commit()
        assert found(metering) == ["ledger_unavailable"]
        metering.record_many([report(900, random.Random(1))])
        assert found(metering)


def test_a_closing_cannot_know_of_what_came_after_it(file_store: SQLiteFile) -> None:
    """A closed period that says it knew of a later position is told, and what is owed on it shows all the same."""
    with file_store.metering() as metering:
        record_history(metering, 30)
        closed = metering.close_period("tokens", "acme", *PERIOD)
    with closing(sqlite3.connect(file_store.place.events_database)) as connection:
        connection.execute("DROP TRIGGER stored_events_are_never_changed")
        connection.execute(
            "UPDATE stored_events SET state = CAST(replace(state, ?, ?) AS BLOB) WHERE topic = 'PeriodClosed'",
            (f'"position":{closed.position}', '"position":9999'),
        )
        connection.commit()
    with file_store.metering() as metering:
        payload = {"customer": "acme", "value": "500"}
        metering.record("tokens", payload, identifier="late", timestamp=START)
        (differing,) = metering.verify().differing_periods
        assert (differing.period.position, differing.expected.position) == (9999, closed.position)
        (adjustment,) = metering.adjustments("tokens")
        assert adjustment.difference == 500


@pytest.mark.parametrize("wrong", ["state = x'7b'", "originator_id = 'period/tokens/other'", "originator_version = 7"])
def test_a_closing_that_cannot_be_read_is_told_as_damage_of_the_ledger(file_store: SQLiteFile, wrong: str) -> None:
    """By verify, and by whatever asks for closed periods; figures that don't need it are answered."""
    with file_store.metering() as metering:
        record_history(metering, 30)
        metering.close_period("tokens", "acme", *PERIOD)
        expected = metering.totals("tokens", *PERIOD)
    with closing(sqlite3.connect(file_store.place.events_database)) as connection:
        connection.execute("DROP TRIGGER stored_events_are_never_changed")
        connection.execute(f"UPDATE stored_events SET {wrong} WHERE topic = 'PeriodClosed'")
        connection.commit()
    with file_store.metering() as metering:
        assert metering.totals("tokens", *PERIOD) == expected
        asking = (metering.verify, lambda: metering.closed_periods("tokens"), lambda: metering.adjustments("tokens"))
        for ask in asking:
            with pytest.raises(TallybookError) as refused:
                ask()
            assert refused.value.code == "ledger_damaged"
