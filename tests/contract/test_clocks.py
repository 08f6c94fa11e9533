"""The times of recording never decrease, on each store, whatever the clocks of the programs say."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import msgspec
import pytest
from tallybook.application import AcceptancePolicy, ClockBehind, LedgerCorrupted, Metering
from tallybook.domain.aggregate import Aggregate

from .persistent_stores import PersistentStore, Step, StoreRejected, decreasing_times_allowed

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
USAGE = {"stripe_customer_id": "acme", "value": "1"}


class SettableClock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def open_at(store: PersistentStore, clock: SettableClock, policy: AcceptancePolicy | None = None) -> Metering:
    return Metering.open(store.url, policy=policy or AcceptancePolicy(), clock=clock)


def times(metering: Metering) -> list[datetime]:
    """Return the time of recording of each event, by position."""
    rows = metering._ledger.read_page(0, 1_000)  # pyright: ignore[reportPrivateUsage]
    return [datetime.fromisoformat(msgspec.json.decode(state)["recorded_at"]) for _, _, state in rows]


@pytest.mark.parametrize("seconds", [0.000001, 0.5, 1, 60])
def test_a_clock_that_is_a_little_behind_records_at_the_time_of_the_last_event(
    persistent_store: PersistentStore, seconds: float
) -> None:
    """One event, a batch, and changes that exclude other writers; a later one has its own time again."""
    clock = SettableClock()
    with open_at(persistent_store, clock) as metering:
        metering.meters.configure("tokens")
        clock.now = NOON - timedelta(seconds=seconds)
        receipt = metering.record("tokens", USAGE, identifier="a")
        metering.record_many([{"event_name": "tokens", "payload": USAGE}] * 60)
        metering.rules.change("tokens", {"formula": "count"}, reason="why")
        assert set(times(metering)) == {NOON}
        assert metering.event("a").recorded_at == NOON
        assert metering.record("tokens", USAGE, identifier="a").position == receipt.position
        clock.now = NOON + timedelta(seconds=0.25)
        metering.cancel("tokens", "a")
        assert times(metering)[-1] == clock.now
        assert metering.verify().is_equal


def test_a_closing_that_is_reopened_at_once_is_returned_as_it_is_stored(persistent_store: PersistentStore) -> None:
    """At the time of the last event, and reopened: no invoice may be made of it."""
    clock, month = SettableClock(), (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    with open_at(persistent_store, clock) as metering, open_at(persistent_store, clock) as other:
        metering.meters.configure("tokens")
        metering.record("tokens", USAGE, timestamp=month[1] - timedelta(days=3))
        clock.now = NOON - timedelta(seconds=30)
        ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
        append = ledger.append

        def append_and_reopen(events: Sequence[Aggregate.Event]) -> None:
            append(events)
            other.periods.reopen("tokens", "acme", *month, reason="wrong address")

        with patch.object(ledger, "append", append_and_reopen):
            period = metering.periods.close("tokens", "acme", *month)
        assert (period.quantity, period.closed_at, period.reopened_at) == (1, NOON, NOON)


def test_a_clock_that_is_far_behind_records_nothing(persistent_store: PersistentStore) -> None:
    """The error has both times, and the same call succeeds once the clock is right."""
    clock = SettableClock()
    with open_at(persistent_store, clock) as metering:
        metering.meters.configure("tokens")
        clock.now = NOON - timedelta(seconds=60.000001)
        commands = [
            lambda: metering.record("tokens", USAGE),
            lambda: metering.record_many([{"event_name": "tokens", "payload": USAGE}]),
            lambda: metering.meters.rename("tokens", "Tokens"),
            lambda: metering.rules.change("tokens", {"formula": "count"}, reason="why"),
        ]
        for command in commands:
            with pytest.raises(ClockBehind, match=r"at 2026-11-01T11:58:59\.999999Z.*at 2026-11-01T12:00:00Z"):
                command()
        assert times(metering) == [NOON]
        clock.now = NOON
        for command in commands:
            command()
        assert metering.verify().is_equal


def test_an_operator_can_lift_the_limit(persistent_store: PersistentStore) -> None:
    """After a clock was a year ahead, the ledger would accept nothing for a year."""
    clock = SettableClock()
    with open_at(persistent_store, clock) as metering:
        metering.meters.configure("tokens")
        clock.now = NOON - timedelta(days=365)
    with open_at(persistent_store, clock, AcceptancePolicy(max_clock_delay=None)) as metering:
        metering.record("tokens", USAGE)
        assert times(metering) == [NOON, NOON]


@pytest.mark.parametrize(
    "state",
    [
        '{"recorded_at":"2026-11-01T11:59:59.999999Z","display_name":"x"}',
        '{"recorded_at":"2026-10-01T13:00:00Z","display_name":"x"}',
        '{ "recorded_at":"2026-11-01T13:00:00Z","display_name":"x"}',
        '{"display_name":"x","recorded_at":"2026-11-01T13:00:00Z"}',
        '{"recorded_at":"2026-11-01T13:00:00+00:00","display_name":"x"}',
        "\u00ff",
    ],
)
def test_the_database_rejects_an_earlier_time_of_any_program(persistent_store: PersistentStore, state: str) -> None:
    """Also a state that doesn't begin with its time, so that it can't be compared."""
    with open_at(persistent_store, SettableClock()) as metering:
        metering.meters.configure("tokens")
    insert = "INSERT INTO stored_events VALUES (2, 'meter/tokens', 2, 'Renamed', ?)"
    with pytest.raises(StoreRejected, match="times of recording never decrease"):
        persistent_store.execute("ledger", Step(insert, (state.encode(),)))


@pytest.mark.parametrize("time", ["2026-11-01T12:00:00Z", "2026-11-01T12:00:00.000001Z", "2026-11-01T12:00:01Z"])
def test_the_database_accepts_the_same_time_and_later_ones(persistent_store: PersistentStore, time: str) -> None:
    """With and without a fraction of a second."""
    with open_at(persistent_store, SettableClock()) as metering:
        metering.meters.configure("tokens")
    state = f'{{"recorded_at":"{time}","display_name":"x"}}'.encode()
    insert = "INSERT INTO stored_events VALUES (2, 'meter/tokens', 2, 'Renamed', ?)"
    persistent_store.execute("ledger", Step(insert, (state,)))


@pytest.mark.parametrize("max_clock_delay", [timedelta(minutes=1), None])
def test_nothing_is_recorded_after_an_event_whose_time_was_corrupted(
    persistent_store: PersistentStore, max_clock_delay: timedelta | None
) -> None:
    """The error says so, and what is no time is not passed on to other events."""
    with open_at(persistent_store, SettableClock(), AcceptancePolicy(max_clock_delay=max_clock_delay)) as metering:
        metering.meters.configure("tokens")
        insert = "INSERT INTO stored_events VALUES (2, 'event/a', 1, 'UsageRecorded', ?)"
        persistent_store.execute("ledger", Step(insert, (b'{"recorded_at":"2026-99-01T12:00:00Z"}',)))
        with pytest.raises(LedgerCorrupted, match="recorded at '2026-99-01T12:00:00', which is no time"):
            metering.record("tokens", USAGE)


def test_a_ledger_with_decreasing_times_is_readable_and_goes_on(persistent_store: PersistentStore) -> None:
    """An earlier version has written it. What is recorded now is not earlier than its last event."""
    clock = SettableClock()
    with decreasing_times_allowed(persistent_store), open_at(persistent_store, clock) as metering:
        metering.meters.configure("tokens")
        clock.now = NOON - timedelta(days=3)
        metering.record("tokens", USAGE, identifier="a")
    with open_at(persistent_store, clock) as metering:
        metering.record("tokens", USAGE, identifier="b")
        assert times(metering) == [NOON, clock.now, clock.now]
        assert metering.verify().is_equal
