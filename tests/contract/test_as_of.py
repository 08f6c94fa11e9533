"""Totals as of an earlier point read few usage blocks: those that changed before and after the point."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest
from tallybook.application import Metering
from tallybook.application.storage.sql_writer import SqlReadModels
from tallybook.domain.counting import UsageRecord
from tallybook.projections.blocks import UsageBlock

from .persistent_stores import PersistentStore, SQLiteFile, Step
from .stores import ANY_TIME, Store

START = datetime(2026, 10, 1, tzinfo=UTC)
PERIOD = START, START + timedelta(days=2)
CUSTOMERS = ("acme", "globex", "initech")
WINDOWS = (None, "hour", "day")
EVENTS_PER_DAY = 3_000
"""Per day, of all customers; without a window, each customer's day has several blocks."""
HEAD = 1 + 2 * EVENTS_PER_DAY


def record_two_days(store: Store, window: str | None) -> Metering:
    """Return a ledger with two days of usage, recorded when it occurred, in order of time."""
    ledger, now = store.ledger(), [START]
    read_models = store.read_models(ledger.changed_rules)
    policy = ANY_TIME.model_copy(update={"cancel_window": None})
    metering = Metering(ledger, read_models, policy, lambda: now[0])
    metering.meters.configure("calls", event_time_window=window, customer_key="customer")
    for first in range(0, 2 * EVENTS_PER_DAY, 100):
        events = [meter_event(number) for number in range(first, first + 100)]
        now[0] = START + (first + 100) * timedelta(days=1) / EVENTS_PER_DAY
        metering.record_many(events)
    metering.catch_up()
    return metering


def meter_event(number: int) -> dict[str, object]:
    """Return one of the meter events, which are spread evenly."""
    return {
        "event_name": "calls",
        "identifier": f"event-{number}",
        "timestamp": START + number * timedelta(days=1) / EVENTS_PER_DAY,
        "payload": {"customer": CUSTOMERS[number % len(CUSTOMERS)], "value": str(number)},
    }


@pytest.fixture(params=WINDOWS)
def metering(store: Store, request: pytest.FixtureRequest) -> Iterator[Metering]:
    """Return a ledger with two days of usage, on each store, with each event time window."""
    with record_two_days(store, request.param) as metering:
        yield metering


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[UsageBlock]:
    """Return the list to which each block is added whose records are read."""
    blocks: list[UsageBlock] = []
    usage_in = SqlReadModels.usage_in

    def usage_in_opened(
        reader: SqlReadModels, meter_id: int, read: Sequence[UsageBlock]
    ) -> Iterator[list[UsageRecord]]:
        blocks.extend(read)
        return usage_in(reader, meter_id, read)

    monkeypatch.setattr(SqlReadModels, "usage_in", usage_in_opened)
    return blocks


UNCHANGED_PAST: list[tuple[int, datetime | int]] = [
    (0, 1),
    (0, START),
    (1, 1 + EVENTS_PER_DAY),
    (1, START + timedelta(days=1)),
    (2, HEAD),
    (2, HEAD + 1),
    (2, START + timedelta(days=2)),
]
"""The number of days that were recorded, and a position or time at which they were."""


def test_an_unchanged_past_is_read_from_buckets(metering: Metering, opened: list[UsageBlock]) -> None:
    """Before all usage, at the end of a day and at the head, no block is opened."""
    for days, as_of in UNCHANGED_PAST:
        total = metering.total("calls", None, *PERIOD, as_of=as_of)
        metering.totals("calls", *PERIOD, as_of=as_of)
        metering.summaries("calls", "acme", *PERIOD, window="day", as_of=as_of)
        counts = [day.count for day in metering.summaries("calls", None, *PERIOD, window="day")]
        assert total.count == sum(counts[:days])
    assert opened == []


def test_one_block_of_each_customer_is_opened(metering: Metering, opened: list[UsageBlock]) -> None:
    """If usage is recorded in order of time, the point is within one block of each customer's day at most."""
    for share in (5, 33, 50, 99):
        position = 1 + 2 * EVENTS_PER_DAY * share // 100
        at = START + (position - 1) * timedelta(days=1) / EVENTS_PER_DAY
        for as_of in (position, at):
            opened.clear()
            totals = metering.totals("calls", *PERIOD, as_of=as_of)
            assert len(opened) <= len(CUSTOMERS)
            assert [total.customer for total in totals] == list(CUSTOMERS)


def test_later_cancellations_open_the_blocks_of_the_cancelled_events(
    metering: Metering, opened: list[UsageBlock]
) -> None:
    """As of a point before the cancellations, the totals include the cancelled events."""
    before = metering.totals("calls", *PERIOD)
    cancelled = [0, 1, EVENTS_PER_DAY, 2 * EVENTS_PER_DAY - 1]
    for number in cancelled:
        metering.cancel("calls", f"event-{number}")
    metering.catch_up()
    opened.clear()
    assert metering.totals("calls", *PERIOD, as_of=HEAD) == before
    assert len(opened) <= len(cancelled)


def test_totals_under_an_earlier_formula_are_read_from_buckets(metering: Metering, opened: list[UsageBlock]) -> None:
    """The buckets have the totals of every formula, and every record has a value."""
    before = metering.totals("calls", *PERIOD)
    metering.rules.change("calls", {"formula": "count"}, reason="billed by call")
    metering.rules.change("calls", {"formula": "last"}, reason="billed by the last call")
    opened.clear()
    assert metering.totals("calls", *PERIOD, as_of=HEAD) == before
    by_call = metering.totals("calls", *PERIOD, as_of=HEAD + 1)
    assert [total.value for total in by_call] == [total.count for total in before]
    assert opened == []


def test_customers_of_earlier_rules_are_named(persistent_store: PersistentStore) -> None:
    """Rules that were announced and taken back named customers that no present rules do, in a part of the range."""
    change_time, second = START + timedelta(days=1), timedelta(seconds=1)
    with persistent_store.metering() as metering:
        metering.meters.configure("calls", customer_key="customer")
        for at in (START, change_time):
            payload = {"customer": "acme", "reseller": "umbrella", "value": "5"}
            metering.record("calls", payload, timestamp=at)
        metering.rules.change("calls", {"customer_key": "reseller"}, reason="resale", effective_from=change_time)
        position = metering.catch_up()
        metering.rules.change("calls", {"customer_key": "customer"}, reason="no resale", effective_from=change_time)
        query = partial(metering.totals, "calls", START, change_time + second)
        assert [(total.customer, total.value) for total in query()] == [("acme", 10)]
        assert [(total.customer, total.value) for total in query(as_of=position)] == [("acme", 5), ("umbrella", 5)]


def test_a_customer_of_earlier_rules_has_usage_after_a_change(persistent_store: PersistentStore) -> None:
    """Also if no other usage of the customer was recorded before the time of the change."""
    change_time, end = START + timedelta(days=1), START + timedelta(days=2)
    with persistent_store.metering() as metering:
        metering.meters.configure("calls", customer_key="customer")
        for at, customer in ((START, "acme"), (change_time, "beta")):
            metering.record("calls", {"customer": customer, "reseller": "umbrella", "value": "5"}, timestamp=at)
        position = metering.catch_up()
        metering.periods.close("calls", "beta", START, end)
        metering.rules.change("calls", {"customer_key": "reseller"}, reason="resale", effective_from=change_time)
        assert metering.total("calls", "beta", START, end).value == 0
        assert metering.total("calls", "beta", START, end, as_of=position).value == 5
        (adjustment,) = metering.periods.adjustments("calls")
        assert (adjustment.difference, adjustment.rules_difference) == (0, -5)


def test_a_time_may_be_out_of_the_range_of_utc(persistent_store: PersistentStore) -> None:
    """It is before or after all events then, also for meters."""
    with persistent_store.metering() as metering:
        metering.meters.configure("calls")
        first = datetime.min.replace(tzinfo=timezone(timedelta(hours=23)))
        last = datetime.max.replace(tzinfo=timezone(-timedelta(hours=23)))
        assert metering.meters.list(as_of=first) == []
        assert [meter.event_name for meter in metering.meters.list(as_of=last)] == ["calls"]
        assert metering.totals("calls", *PERIOD, as_of=last) == metering.totals("calls", *PERIOD, as_of=first) == []


EARLIER_COLUMNS = {
    "usage_1": "meter, customer, start, dimensions, first_position, earliest, latest, sum, count, last, last_at,"
    " last_position, usages",
    "totals_1": "meter, bucket_seconds, start, customer, dimensions, sum, count, last, last_at, last_position",
}
"""The columns of the version before spans of changes, without those of PostgreSQL only."""


def test_read_models_without_spans_of_changes_are_rebuilt(persistent_store: PersistentStore) -> None:
    """Read models of the earlier version are rebuilt, because their rows have fewer columns."""
    with record_two_days(persistent_store, "hour") as metering:
        query = partial(metering.totals, "calls", *PERIOD)
        expected = query(), query(as_of=EVENTS_PER_DAY)
    is_sqlite = isinstance(persistent_store, SQLiteFile)
    for table, columns in EARLIER_COLUMNS.items():
        persistent_store.execute(
            "read_models",
            Step(f"CREATE TABLE earlier AS SELECT {columns} FROM {table}"),
            Step(f"DROP TABLE {table}"),
            Step(f"ALTER TABLE earlier RENAME TO {table}"),
        )
    set_version = "PRAGMA user_version = 5" if is_sqlite else "UPDATE read_models SET version = 3"
    persistent_store.execute("read_models", Step(set_version))
    with persistent_store.open() as metering:
        query = partial(metering.totals, "calls", *PERIOD)
        assert (query(), query(as_of=EVENTS_PER_DAY)) == expected
        assert metering.verify().is_equal
