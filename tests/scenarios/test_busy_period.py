"""A closed month with 500 late meter events and 200 cancellations: each change is adjusted, event by event."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from tallybook.application import AcceptancePolicy, Metering

from ..notation import Clock
from ..properties.naive import HistoryEntry, compute_quantity, effective, entries_between

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
LATE = AcceptancePolicy(max_age=None, cancel_window=None)
CUSTOMERS = ("acme", "beta", "core")


class BusyMonth:
    """A meter, the history of its events, and a clock."""

    def __init__(self, metering: Metering, clock: Clock, formula: str, window: str | None) -> None:
        self.metering, self.clock = metering, clock
        self.formula, self.window = formula, window
        self.entries: list[HistoryEntry] = []
        self.rng = random.Random(f"{formula} {window}")
        metering.meters.configure("calls", formula=formula, event_time_window=window, customer_key="customer")

    def record(self, count: int) -> None:
        """Record meter events at any time of the month; a tenth of them have a negative value."""
        entries = [self._random_entry(number) for number in range(count)]
        meter_events = [
            {
                "event_name": "calls",
                "payload": {"customer": entry.customer, "value": entry.value},
                "identifier": entry.identifier,
                "timestamp": entry.occurred_at,
            }
            for entry in entries
        ]
        assert {receipt.outcome for receipt in self.metering.record_many(meter_events)} == {"accepted"}
        self.entries += entries

    def cancel(self, count: int) -> None:
        """Cancel events, recorded before the closing or late."""
        cancelled = {entry.identifier for entry in self.entries if entry.cancels}
        for identifier in self.rng.sample(
            [entry.identifier for entry in self.entries if entry.identifier not in cancelled], count
        ):
            self.metering.cancel("calls", identifier, reason="a mistake")
            self.entries.append(HistoryEntry(len(self.entries), self.clock.now, identifier, cancels=True))

    def quantity(self, customer: str) -> Fraction:
        """Return the total of a customer's month by the naive model."""
        counted = entries_between(effective(self.entries, "calls", self.window), customer, START, END, self.window)
        return compute_quantity(self.formula, counted)

    def counted_identifiers(self) -> set[str]:
        """Return the identifiers of the events that count."""
        return {entry.identifier for entry in effective(self.entries, "calls", self.window)}

    def _random_entry(self, number: int) -> HistoryEntry:
        position, now = len(self.entries) + number, self.clock.now
        at = START + timedelta(minutes=self.rng.randrange(31 * 24 * 60))
        customer, value = self.rng.choice(CUSTOMERS), str(self.rng.randrange(-10, 90))
        return HistoryEntry(position, now, f"e{position}", "calls", customer, at, value)


@pytest.fixture(params=[None, "hour", "day"], ids=["raw", "hour", "day"])
def window(request: pytest.FixtureRequest) -> str | None:
    """Return each window."""
    return request.param


@pytest.fixture(params=["sum", "count", "last"])
def month(request: pytest.FixtureRequest, window: str | None) -> Iterator[BusyMonth]:
    """A month of 900 meter events, closed for all customers, then 500 late events and 200 cancellations."""
    clock = Clock(END)
    with Metering.open("sqlite://", policy=LATE, clock=clock) as metering:
        yield BusyMonth(metering, clock, request.param, window)


def test_changes_after_a_close_are_adjusted_event_by_event(month: BusyMonth) -> None:
    """Frozen totals stay; each adjustment equals the naive model and lists exactly the events that changed."""
    month.record(900)
    month.cancel(50)
    month.clock.now += timedelta(hours=1)
    frozen = [month.metering.periods.close("calls", customer, START, END) for customer in CUSTOMERS]
    assert [Fraction(period.quantity) for period in frozen] == [month.quantity(customer) for customer in CUSTOMERS]
    said_before, counted_before = len(month.entries), month.counted_identifiers()

    month.clock.now += timedelta(days=2)
    month.record(500)
    month.cancel(200)

    since = {entry.identifier for entry in month.entries[said_before:]} | (counted_before ^ month.counted_identifiers())
    assert month.metering.periods.list("calls") == frozen
    for closed, adjustment in zip(frozen, month.metering.periods.adjustments("calls"), strict=True):
        assert adjustment.period == closed == month.metering.periods.close("calls", closed.customer, START, END)
        assert Fraction(adjustment.difference) == month.quantity(closed.customer) - Fraction(closed.quantity)
        assert adjustment.difference == sum(event.change for event in adjustment.events)
        moved = {event.identifier for event in adjustment.events if event.before == event.verdict}
        listed = {event.identifier for event in adjustment.events} - moved
        assert listed == {entry.identifier for entry in month.entries if entry.customer == closed.customer} & since
        assert not moved or (month.formula == "last" and len(moved) == 1), (
            "only the previous last event may lose its contribution"
        )
        assert {event.reason for event in adjustment.events if event.verdict == "cancelled"} == {"a mistake"}
    assert month.metering.verify().is_equal
