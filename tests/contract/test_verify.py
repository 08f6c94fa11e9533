"""Verification detects any change of the read models, and reports the row."""

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.queries import verification
from tallybook.domain import Meter
from tallybook.projections.models import AsOf
from tallybook.projections.ports import TableRow

from .histories import START, query_results, random_event, record_history
from .persistent_stores import PersistentStore, StoreRejected
from .stores import Store

PERIOD = START, START.replace(day=20)


@pytest.fixture
def live_ledger(persistent_store: PersistentStore) -> Iterator[Metering]:
    """Return a ledger with changed rules, whose live generation 2 is verified."""
    with persistent_store.metering() as metering:
        record_history(metering, 20)
        metering.rules.change("tokens", {"event_time_window": "day"}, reason="billed by day")
        assert metering.verify().is_equal
        yield metering


def corrupt(store: PersistentStore, statement: str, *parameters: object) -> None:
    """Change one row of the read models without the application, while a process has them open."""
    assert store.corrupt_read_models(statement, *parameters) == 1


def verification_findings(metering: Metering) -> list[str]:
    """Return the differences that verification finds, each as "table: key", or the code of the error it raises."""
    try:
        verification = metering.verify()
    except TallybookError as error:
        return [error.code]
    assert not verification.is_equal
    differences = [table.difference for table in verification.tables if not table.is_equal]
    return [f"{table.table}: {table.key}" for table in differences if table is not None]


def first_row_condition(table: str, key: str) -> str:
    """Return the condition for the first row of a table by its key."""
    return f"({key}) = (SELECT {key} FROM {table}_2 ORDER BY {key} LIMIT 1)"


ONE_ROW = {
    "meters": "meter = 1",
    "customers": "customer = 1",
    "usage": first_row_condition("usage", "meter, customer, start, dimensions, first_position"),
    "totals": first_row_condition("totals", "meter, bucket_seconds, start, customer, dimensions"),
}
NUMBER, TEXT, BYTES = "number", "text", "bytes"
COLUMNS = [
    *(("meters", column, TEXT) for column in ("event_name", "rules", "history")),
    *(("usage", column, NUMBER) for column in ("meter", "customer", "start", "first_position", "earliest", "latest")),
    *(("usage", column, NUMBER) for column in ("count", "last_at", "last_position")),
    ("usage", "last_change", NUMBER),
    *(("usage", column, kind) for column, kind in (("dimensions", TEXT), ("sum", TEXT), ("last", TEXT))),
    *(("usage", column, TEXT) for column in ("min_value", "max_value")),
    ("usage", "usages", BYTES),
    *(("totals", column, NUMBER) for column in ("meter", "bucket_seconds", "start", "customer")),
    *(("totals", column, NUMBER) for column in ("count", "last_at", "last_position")),
    *(("totals", column, NUMBER) for column in ("first_change", "last_change")),
    *(("totals", column, TEXT) for column in ("dimensions", "sum", "last", "min_value", "max_value")),
    *(("meters", "meter", NUMBER), ("customers", "customer", NUMBER), ("customers", "name", TEXT)),
]
KEY_PREFIXES = {
    "meters": "meters: meter tokens",
    "customers": "customers: customer ",
    "usage": "usage: meter tokens, customer ",
    "totals": "totals: meter tokens, bucket_seconds 86400, start 2026-10-",
}
Change = tuple[str, tuple[object, ...]]
INCREASED: dict[str, Change] = {
    NUMBER: ("coalesce({0}, 4) + 1", ()),
    TEXT: ("coalesce(replace({0}, 'day', 'hour') || '1', '5')", ()),
    BYTES: ("?", (b"\0\0\0",)),
}
OTHER_TYPE: dict[str, Change] = {NUMBER: ("'text'", ()), TEXT: ("7", ()), BYTES: ("'text'", ())}
GARBAGE: Change = "?", (b"\xff\x00\xfe",)
NULL_VALUE: Change = "NULL", ()


@pytest.mark.parametrize("table", ONE_ROW)
def test_one_changed_cell_is_detected(live_ledger: Metering, persistent_store: PersistentStore, table: str) -> None:
    """An increased value, another type, random bytes or NULL in any column of any table is reported at its row, or the
    read models are rejected as unreadable."""
    changes = [
        (column, *change)
        for column_table, column, kind in COLUMNS
        for change in (INCREASED[kind], OTHER_TYPE[kind], GARBAGE, NULL_VALUE)
        if column_table == table
    ]
    for column, change, parameters in changes:
        prefix = KEY_PREFIXES[table] if column not in ("meter", "bucket_seconds", "start") else f"{table}: "
        with persistent_store.restore_table(f"{table}_2"):
            statement = f"UPDATE {table}_2 SET {column} = {change.format(column)} WHERE {ONE_ROW[table]}"
            try:
                assert persistent_store.corrupt_read_models(statement, *parameters) == 1
            except StoreRejected:
                continue  # the database rejects the value
            findings = verification_findings(live_ledger)
            is_reported = findings == ["ledger_unavailable"] or any(entry.startswith(prefix) for entry in findings)
            assert is_reported, (column, change)


def test_rows_with_null_in_their_key_are_reported(live_ledger: Metering) -> None:
    """A damaged file can have them, although the tables forbid it. They come first, as in SQLite."""
    keys: list[Any] = [(None, 1), (1, 1), (1, "text"), (1, b"bytes")]
    with live_ledger._read_models.read_session() as reader:  # pyright: ignore[reportPrivateUsage]
        for found, expected in pairwise((TableRow(key, ()), b"") for key in keys):
            difference = verification._row_difference("meters", reader, found, expected)  # pyright: ignore[reportPrivateUsage]
            assert (difference.found, difference.expected) == ("[]", None)


@pytest.mark.parametrize("number", range(5))
def test_one_changed_number_of_one_usage_record_is_detected(
    live_ledger: Metering, persistent_store: PersistentStore, number: int
) -> None:
    """This applies to the times, positions and value of a usage record in its usage block."""
    ((packed,),) = persistent_store.read_model_rows(f"SELECT usages FROM usage_2 WHERE {ONE_ROW['usage']}")
    usages = msgspec.msgpack.decode(packed)
    usages[0] += [None] * (5 - len(usages[0]))
    is_text = isinstance(usages[0][number], str)
    usages[0][number] = "99" if is_text else (usages[0][number] or 0) + 1
    corrupt(persistent_store, f"UPDATE usage_2 SET usages = ? WHERE {ONE_ROW['usage']}", msgspec.msgpack.encode(usages))
    (findings,) = verification_findings(live_ledger)
    assert findings.startswith("usage: meter tokens, customer ")


@pytest.mark.parametrize("table", ONE_ROW)
def test_a_missing_row_is_detected(live_ledger: Metering, persistent_store: PersistentStore, table: str) -> None:
    """The difference has the key of the row, with names instead of ids."""
    corrupt(persistent_store, f"DELETE FROM {table}_2 WHERE {ONE_ROW[table]}")
    findings = verification_findings(live_ledger)
    assert findings == ["ledger_unavailable"] or any(entry.startswith(KEY_PREFIXES[table]) for entry in findings)


@pytest.mark.parametrize(
    ("table", "cells"),
    [
        ("meters", {"meter": 9, "event_name": "more"}),
        ("customers", {"customer": 900, "name": "nobody"}),
        ("usage", {"customer": 900}),
        ("usage", {"first_position": 0, "usages": b"\x90"}),
        ("totals", {"customer": 900}),
        ("totals", {"start": "x", "sum": "0", "count": 0, "last": None, "last_at": None, "last_position": None}),
    ],
)
def test_an_extra_row_is_detected(
    live_ledger: Metering, persistent_store: PersistentStore, table: str, cells: dict[str, object]
) -> None:
    """This includes rows that change no total."""
    try:
        persistent_store.add_read_model_row(f"{table}_2", **cells)
    except StoreRejected:
        assert cells.get("start") == "x", "the database rejected the row"
    else:
        assert any(finding.startswith(f"{table}: ") for finding in verification_findings(live_ledger))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE generations SET ledger_fingerprint = 'x' WHERE generation = 2",
            "generations: column ledger_fingerprint",
        ),
        (
            "UPDATE generations SET ledger_fingerprint = NULL WHERE generation = 2",
            "generations: column ledger_fingerprint",
        ),
        ("UPDATE generations SET pinned = '{}' WHERE generation = 2", "generations: column pinned, meter tokens"),
        ("UPDATE generations SET pinned = 'x' WHERE generation = 2", "generations: column pinned"),
        (
            "UPDATE generations SET pinned = replace(pinned, '\"sum\"', '\"last\"') WHERE generation = 2",
            "generations: column pinned, meter tokens",
        ),
        ("UPDATE tracking SET notification_id = 5 WHERE application_name = 'generation 2'", "ledger_unavailable"),
        ("DELETE FROM tracking WHERE application_name = 'generation 2'", "ledger_unavailable"),
        ("UPDATE tracking SET notification_id = 9000 WHERE application_name = 'generation 2'", "ledger_unavailable"),
    ],
)
def test_the_metadata_of_a_generation_is_verified(
    live_ledger: Metering, persistent_store: PersistentStore, statement: str, expected: str
) -> None:
    """A wrong fingerprint, position or pinned rule is reported, also if the generation can't catch up."""
    corrupt(persistent_store, statement)
    assert verification_findings(live_ledger) == [expected]


def test_impossible_read_models_are_an_error_with_a_hint(
    live_ledger: Metering, persistent_store: PersistentStore
) -> None:
    """Verification and queries report an unreadable cell, and the message says to delete the file."""
    corrupt(persistent_store, f"UPDATE totals_2 SET sum = 'many' WHERE {ONE_ROW['totals']}")
    with pytest.raises(TallybookError, match=r"Delete their file \(.read-models\)"):
        query_results(live_ledger)
    corrupt(persistent_store, f"UPDATE totals_2 SET sum = '1' WHERE {ONE_ROW['totals']}")
    corrupt(persistent_store, "DELETE FROM customers_2 WHERE customer = 1")
    with pytest.raises(TallybookError, match=r"Delete their file \(.read-models\)"):
        query_results(live_ledger)


def test_read_models_ahead_of_the_ledger_are_not_used(live_ledger: Metering, persistent_store: PersistentStore) -> None:
    """A position after the head would hide the events that are recorded next."""
    corrupt(persistent_store, "UPDATE tracking SET notification_id = 9000 WHERE application_name = 'generation 2'")
    with pytest.raises(TallybookError, match="after the last event of the ledger"):
        query_results(live_ledger)


def test_a_decreased_position_is_an_error(persistent_store: PersistentStore) -> None:
    """After any decrease no event is counted twice, and reopening the ledger rebuilds the read models."""
    with persistent_store.open() as metering:
        metering.meters.configure("tokens", customer_key="customer")
        for hour in range(6):  # each event is folded separately and occurred before the previous one
            payload, at = {"customer": "acme", "value": "1"}, START.replace(hour=20 - hour)
            metering.record("tokens", payload, identifier=f"use-{hour}", timestamp=at)
            metering.catch_up()
        before = metering.totals("tokens", *PERIOD)
        for position in reversed(range(metering.catch_up())):
            corrupt(persistent_store, "UPDATE tracking SET notification_id = ?", position)
            with pytest.raises(TallybookError, match=f"at position {position}, but were built"):
                metering.totals("tokens", *PERIOD)
    with persistent_store.open() as metering:
        assert metering.totals("tokens", *PERIOD) == before
        assert metering.verify().is_equal


def test_a_promotion_repairs(live_ledger: Metering, persistent_store: PersistentStore) -> None:
    """A rebuilt generation replaces a corrupted one."""
    corrupt(persistent_store, f"UPDATE totals_2 SET sum = '1000000' WHERE {ONE_ROW['totals']}")
    assert verification_findings(live_ledger)
    live_ledger.generations.promote(live_ledger.generations.rebuild().number)
    assert live_ledger.verify().is_equal


def test_a_closed_period_is_verified(live_ledger: Metering) -> None:
    """Its frozen totals are verified as of its position and rules, also after a rule change."""
    assert live_ledger.verify().closed_periods == 0
    live_ledger.periods.close("seats", "acme", START, START.replace(day=9))
    live_ledger.rules.change("seats", {"formula": "sum"}, reason="a test")
    verification = live_ledger.verify()
    assert (verification.closed_periods, verification.is_equal) == (1, True)


def test_verifying_goes_on_while_usage_arrives(store: Store) -> None:
    """Verification compares as of its start; events recorded in the meantime don't affect it."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 40)

        def more(_: object) -> None:
            other.record_many([{"event_name": "tokens", "payload": {"customer": "new", "value": "1"}}])

        head = metering.catch_up()
        verification = metering.verify(more)
        assert (verification.is_equal, verification.position) == (True, head)
        assert metering.catch_up() > head


def test_rules_changed_while_verifying_are_not_verified(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live generation is compared under the rules in force at its position."""
    with persistent_store.metering() as metering, persistent_store.metering() as other:
        record_history(metering, 20)
        ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
        meters, once = ledger.meters, iter(["count"])

        def change_then_list(as_of: AsOf | None = None) -> Iterator[Meter]:
            for formula in once:
                other.rules.change("tokens", {"formula": formula}, reason="meanwhile")
            return meters(as_of)

        monkeypatch.setattr(ledger, "meters", change_then_list)
        assert metering.verify().is_equal
        assert metering.meters.get("tokens").revision == 2
        assert metering.verify().is_equal


def test_verifying_leaves_nothing_behind(live_ledger: Metering, persistent_store: PersistentStore) -> None:
    """Temporary files and tables are removed after a verification, also after an interrupted one."""
    before = persistent_store.list_objects()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live_ledger.verify(interrupt)
    assert live_ledger.verify().is_equal
    assert persistent_store.list_objects() == before


def test_a_ledger_that_lost_events_is_reported(persistent_store: PersistentStore) -> None:
    """If the newest event was deleted, verification raises an error and doesn't wait for it."""
    with persistent_store.metering() as metering:
        record_history(metering, 20)
        head = metering.catch_up()
        assert persistent_store.corrupt_ledger("DELETE FROM stored_events WHERE position = ?", head) == 1
        assert verification_findings(metering) == ["ledger_unavailable"]
        metering.record_many([random_event(900, random.Random(1))])
        assert verification_findings(metering)


def test_a_closed_period_cannot_include_later_events(persistent_store: PersistentStore) -> None:
    """A closed period with a position after its own event is reported, and its adjustments are still computed."""
    with persistent_store.metering() as metering:
        record_history(metering, 30)
        closed = metering.periods.close("tokens", "acme", *PERIOD, allow_empty=True)
    ((state,),) = persistent_store.ledger_rows("SELECT state FROM stored_events WHERE topic = 'PeriodClosed'")
    later = state.replace(f'"position":{closed.position}'.encode(), b'"position":9999')
    assert later != state
    assert (
        persistent_store.corrupt_ledger("UPDATE stored_events SET state = ? WHERE topic = 'PeriodClosed'", later) == 1
    )
    with persistent_store.metering() as metering:
        payload = {"customer": "acme", "value": "500"}
        metering.record("tokens", payload, identifier="late", timestamp=START)
        (differing,) = metering.verify().differing_periods
        assert (differing.period.position, differing.expected.position) == (9999, closed.position)
        (adjustment,) = metering.periods.adjustments("tokens")
        assert adjustment.difference == 500


@pytest.mark.parametrize(
    ("column", "invalid_value"), [("state", b"{"), ("originator_id", "period/tokens/other"), ("originator_version", 7)]
)
def test_an_unreadable_closed_period_is_reported_as_ledger_corruption(
    persistent_store: PersistentStore, column: str, invalid_value: object
) -> None:
    """Verification and queries of closed periods raise the error; totals don't read closed periods."""
    with persistent_store.metering() as metering:
        record_history(metering, 30)
        metering.periods.close("tokens", "acme", *PERIOD, allow_empty=True)
        expected = metering.totals("tokens", *PERIOD)
    changed_rows = persistent_store.corrupt_ledger(
        f"UPDATE stored_events SET {column} = ? WHERE topic = 'PeriodClosed'", invalid_value
    )
    assert changed_rows == 1
    with persistent_store.metering() as metering:
        assert metering.totals("tokens", *PERIOD) == expected
        operations = (
            metering.verify,
            lambda: metering.periods.list("tokens"),
            lambda: metering.periods.adjustments("tokens"),
        )
        for operation in operations:
            with pytest.raises(TallybookError) as exc_info:
                operation()
            assert exc_info.value.code == "ledger_corrupted"
