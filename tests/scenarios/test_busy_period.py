"""A month that is closed, then 500 late reports and 200 cancels: all that came since is owed, event by event."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from tallybook.application import AcceptancePolicy, Metering

from ..notation import Clock
from ..properties.naive import Said, effective, figures

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
LATE = AcceptancePolicy(max_age=None, cancel_window=None)
CUSTOMERS = ("acme", "beta", "core")


class Month:
    """A meter, what was said on it, and a clock."""

    def __init__(self, metering: Metering, clock: Clock, formula: str, window: str | None) -> None:
        self.metering, self.clock = metering, clock
        self.formula, self.window = formula, window
        self.said: list[Said] = []
        self.rng = random.Random(f"{formula} {window}")
        metering.configure_meter("calls", formula=formula, event_time_window=window, customer_key="customer")

    def record(self, many: int) -> None:
        """Report uses of any time of the month, a tenth of them corrections of a negative value."""
        uses = [self._use(number) for number in range(many)]
        reports = [
            {
                "event_name": "calls",
                "payload": {"customer": use.customer, "value": use.value},
                "identifier": use.identifier,
                "timestamp": use.occurred_at,
            }
            for use in uses
        ]
        assert {one.outcome for one in self.metering.record_many(reports)} == {"accepted"}
        self.said += uses

    def cancel(self, many: int) -> None:
        """Cancel events, those of before the closing as well as late ones."""
        cancelled = {one.identifier for one in self.said if one.cancels}
        for identifier in self.rng.sample(
            [one.identifier for one in self.said if one.identifier not in cancelled], many
        ):
            self.metering.cancel("calls", identifier, reason="a mistake")
            self.said.append(Said(len(self.said), self.clock.now, identifier, cancels=True))

    def quantity(self, customer: str) -> Fraction:
        """What a customer's month comes to, counted the plain way."""
        total, count, last = figures(effective(self.said, "calls", self.window), customer, START, END)
        return {"sum": total, "count": Fraction(count), "last": last or Fraction(0)}[self.formula]

    def counted(self) -> set[str]:
        """The identifiers of the events that count."""
        return {one.identifier for one in effective(self.said, "calls", self.window)}

    def _use(self, number: int) -> Said:
        position, now = len(self.said) + number, self.clock.now
        at = START + timedelta(minutes=self.rng.randrange(31 * 24 * 60))
        customer, value = self.rng.choice(CUSTOMERS), str(self.rng.randrange(-10, 90))
        return Said(position, now, f"e{position}", "calls", customer, at, value)


@pytest.fixture(params=[None, "hour", "day"], ids=["raw", "hour", "day"])
def window(request: pytest.FixtureRequest) -> str | None:
    """Each window."""
    return request.param


@pytest.fixture(params=["sum", "count", "last"])
def month(request: pytest.FixtureRequest, window: str | None) -> Iterator[Month]:
    """A month of 900 uses, closed for all customers, with 500 late ones and 200 cancels since."""
    clock = Clock(END)
    with Metering.open("sqlite://", policy=LATE, clock=clock) as metering:
        yield Month(metering, clock, request.param, window)


def test_what_came_since_a_month_was_closed_is_owed_event_by_event(month: Month) -> None:
    """Frozen figures stay; what is owed is what plain loops say, made up of exactly the events that came since."""
    month.record(900)
    month.cancel(50)
    month.clock.now += timedelta(hours=1)
    frozen = [month.metering.close_period("calls", customer, START, END) for customer in CUSTOMERS]
    assert [Fraction(one.quantity) for one in frozen] == [month.quantity(customer) for customer in CUSTOMERS]
    said_before, counted_before = len(month.said), month.counted()

    month.clock.now += timedelta(days=2)
    month.record(500)
    month.cancel(200)

    since = {one.identifier for one in month.said[said_before:]} | (counted_before ^ month.counted())
    assert month.metering.closed_periods("calls") == frozen
    for closed, owed in zip(frozen, month.metering.adjustments("calls"), strict=True):
        assert owed.period == closed == month.metering.close_period("calls", closed.customer, START, END)
        assert Fraction(owed.difference) == month.quantity(closed.customer) - Fraction(closed.quantity)
        assert owed.difference == sum(one.change for one in owed.events)
        moved = {one.identifier for one in owed.events if one.before == one.verdict}
        listed = {one.identifier for one in owed.events} - moved
        assert listed == {one.identifier for one in month.said if one.customer == closed.customer} & since
        assert not moved or (month.formula == "last" and len(moved) == 1), "the last one alone gives up what it added"
        assert {one.reason for one in owed.events if one.verdict == "cancelled"} == {"a mistake"}
    assert month.metering.verify().is_equal
