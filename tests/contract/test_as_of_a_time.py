"""What was known at a time doesn't change, also in a ledger whose times of recording decrease.

Versions before schema 3 on SQLite and 6 on PostgreSQL stored what a clock that was behind recorded. See test_clocks.py.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from threading import Barrier
from typing import Any

import msgspec
import pytest
from tallybook.application import Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.ports import CorruptedReadModel
from tallybook.projections.high_water_marks import MARK_INTERVAL
from tallybook.projections.models import LedgerEvent

from ..notation import Clock
from .persistent_stores import PersistentStore, decreasing_times_allowed
from .stores import ANY_TIME

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
Query = Callable[[Metering, datetime], Any]
POLICY = ANY_TIME.model_copy(update={"cancel_window": None})


def open_at(store: PersistentStore, clock: datetime | Callable[[], datetime]) -> Metering:
    """Open a ledger with a clock, or a clock that stands still."""
    return Metering.open(store.url, policy=POLICY, clock=(lambda: clock) if isinstance(clock, datetime) else clock)


def record(metering: Metering, customer: str, value: int, identifier: str | None = None) -> None:
    """Record a meter event of October."""
    payload = {"stripe_customer_id": customer, "value": str(value)}
    metering.record("tokens", payload, identifier=identifier, timestamp=START)


QUERIES: dict[str, Query] = {
    "total": lambda metering, at: metering.total("tokens", "acme", START, END, as_of=at),
    "totals": lambda metering, at: metering.totals("tokens", START, END, as_of=at),
    "summaries": lambda metering, at: metering.summaries("tokens", "acme", START, END, window="day", as_of=at),
    "explain": lambda metering, at: metering.explain("tokens", "acme", START, END, as_of=at),
    "events": lambda metering, at: metering.events("tokens", as_of=at),
    "event": lambda metering, at: metering.event("a", as_of=at),
    "meter": lambda metering, at: metering.meters.get("tokens", as_of=at),
    "meters": lambda metering, at: metering.meters.list(as_of=at),
    "closed periods": lambda metering, at: metering.periods.list("tokens", as_of=at),
    "adjustments": lambda metering, at: metering.periods.adjustments("tokens", as_of=at),
    "gaps": lambda metering, at: metering.periods.gaps("tokens", as_of=at),
    "status": lambda metering, at: metering.periods.status(START, END, as_of=at),
    "runs": lambda metering, at: metering.periods.runs(as_of=at),
    "bulk cancellations": lambda metering, at: metering.cancellations.list(as_of=at),
}


def record_everything(metering: Metering) -> None:
    """Record an event of each kind that changes what queries return."""
    record(metering, "acme", 959, "c")
    metering.cancel("tokens", "a", reason="wrong")
    metering.meters.configure("calls")
    metering.periods.close("tokens", "zeta", START, START + timedelta(days=1))
    metering.cancellations.cancel_many("tokens", customer="zeta", reason="wrong")
    metering.meters.rename("tokens", "Tokens")
    metering.rules.change("tokens", {"formula": "count"}, reason="billed by call")


def test_a_clock_that_is_behind_changes_nothing_of_the_past(persistent_store: PersistentStore) -> None:
    """A program records, cancels, closes and changes rules with an earlier clock than the one before it."""
    first_of_november = END
    with decreasing_times_allowed(persistent_store):
        with open_at(persistent_store, datetime(2026, 10, 20, tzinfo=UTC)) as metering:
            metering.meters.configure("tokens")
            record(metering, "acme", 820, "a")
        with open_at(persistent_store, datetime(2026, 11, 20, tzinfo=UTC)) as metering:
            record(metering, "zeta", 1, "b")
            before = {name: query(metering, first_of_november) for name, query in QUERIES.items()}
        assert before["total"].value == 820
        with open_at(persistent_store, datetime(2026, 10, 25, tzinfo=UTC)) as metering:
            record_everything(metering)
            assert {name: query(metering, first_of_november) for name, query in QUERIES.items()} == before
    persistent_store.delete_read_models()
    with open_at(persistent_store, datetime(2026, 10, 25, tzinfo=UTC)) as metering:
        assert {name: query(metering, first_of_november) for name, query in QUERIES.items()} == before
        assert metering.total("tokens", "acme", START, END).value == 1  # under the new formula


def test_writers_with_different_clocks_never_change_the_past(persistent_store: PersistentStore) -> None:
    """An answer is final once an event of a later time is stored, also while others record at earlier times."""
    writers, events = 4, 2 * MARK_INTERVAL // 4
    barrier = Barrier(writers)
    with open_at(persistent_store, START) as metering:
        metering.meters.configure("tokens")

    def run(writer: int) -> list[tuple[datetime, int]]:
        """Record, and return what was known just before some of the events that are stored."""
        known: list[tuple[datetime, int]] = []
        steps = iter(range(10**6))
        own_clock = lambda: END + (3 * next(steps) - 7 * writer) * MILLISECOND  # noqa: E731 - a few steps behind others
        with open_at(persistent_store, own_clock) as metering:
            barrier.wait()
            for number in range(events):
                record(metering, "acme", 1, f"{writer}-{number}")
                if number % 20 == writer:
                    stored_at = metering.event(f"{writer}-{number}").recorded_at
                    known.append((stored_at - MILLISECOND, count_at(metering, stored_at - MILLISECOND)))
        return known

    with decreasing_times_allowed(persistent_store), ThreadPoolExecutor(writers) as executor:
        answers = [answer for result in executor.map(run, range(writers)) for answer in result]
    with open_at(persistent_store, END) as metering:
        assert [(moment, count_at(metering, moment)) for moment, _ in answers] == answers
        times = recorded_times(metering)
        running_maximum = list(accumulate(times, max))
        assert running_maximum != times, "no clock was behind"
        for moment in sorted({moment + step for moment in times for step in (-MILLISECOND, timedelta(0))}):
            assert count_at(metering, moment) == max(bisect_right(running_maximum, moment) - 1, 0)  # less the meter
        assert metering.verify().is_equal


def count_at(metering: Metering, moment: datetime) -> int:
    """Return how many events were known at a time."""
    return metering.total("tokens", "acme", START, END, as_of=moment).count


def recorded_times(metering: Metering) -> list[datetime]:
    """Return the time of recording of each event, by position."""
    rows = metering._ledger.read_page(0, 100_000)  # pyright: ignore[reportPrivateUsage]
    return [datetime.fromisoformat(msgspec.json.decode(state)["recorded_at"]) for _, _, state in rows]


@pytest.fixture
def long_ledger(persistent_store: PersistentStore) -> Metering:
    """Return a ledger with two high-water marks and more, whose clock advances with each batch."""
    clock = Clock(END)
    metering = open_at(persistent_store, clock)
    metering.meters.configure("tokens")
    for _ in range(30):
        clock.now += timedelta(hours=1)
        events = [{"event_name": "tokens", "payload": {"stripe_customer_id": "acme", "value": "1"}}] * 20
        metering.record_many([{**event, "timestamp": START} for event in events])
    metering.catch_up()
    return metering


def test_a_time_is_resolved_without_reading_the_ledger(long_ledger: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most the events up to the next mark are read, and none for a time after all events."""
    pages: list[Sequence[LedgerEvent]] = []
    read_page = Ledger.read_page

    def read(ledger: Ledger, after: int, limit: int) -> Sequence[LedgerEvent]:
        pages.append(read_page(ledger, after, limit))
        return pages[-1]

    with long_ledger as metering:
        monkeypatch.setattr(Ledger, "read_page", read)
        for hour in range(-1, 31):
            pages.clear()
            assert count_at(metering, END + hour * timedelta(hours=1)) == 20 * max(hour, 0)
            assert sum(map(len, pages)) <= (0 if hour == 30 else MARK_INTERVAL)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE high_water_marks_1 SET recorded_at = recorded_at + 1 WHERE position = 128", "high_water_marks"),
        ("DELETE FROM high_water_marks_1 WHERE position = 128", "high_water_marks"),
        ("INSERT INTO high_water_marks_1 (position, recorded_at) VALUES (300, 5)", "high_water_marks"),
        ("UPDATE generations SET latest_recorded_at = latest_recorded_at + 1", "generations"),
    ],
)
def test_wrong_marks_are_found_by_verification(
    long_ledger: Metering, persistent_store: PersistentStore, statement: str, finding: str
) -> None:
    """They would make queries as of a time wrong."""
    with long_ledger as metering:
        assert metering.verify().is_equal
        assert persistent_store.corrupt_read_models(statement) == 1
        assert [table.table for table in metering.verify().tables if not table.is_equal] == [finding]


def test_impossible_marks_are_an_error_with_a_hint(long_ledger: Metering, persistent_store: PersistentStore) -> None:
    """A query as of a time that contradicts the ledger is not answered."""
    with long_ledger as metering:
        persistent_store.corrupt_read_models("UPDATE generations SET latest_recorded_at = latest_recorded_at + 2")
        with pytest.raises(CorruptedReadModel, match=r"high-water marks .* Delete their file"):
            metering.total("tokens", "acme", START, END, as_of=END + timedelta(hours=30, microseconds=1))
