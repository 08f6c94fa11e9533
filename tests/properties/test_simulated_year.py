"""A simulated year of billing: all usage is on exactly one invoice line, and all corrections are settled.

Late and negative usage, cancellations, customers in other timezones or moving to one, dated and retroactive rule
changes, usage that a rule change moves to another customer, interrupted billing runs, and periods closed again.

`python -m tests.properties.test_simulated_year CUSTOMERS MONTHS SEED` runs a larger one.
"""

import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import pytest
from tallybook.domain.errors import RulesChangeInRange

from tallybook import AcceptancePolicy, BillingCycle, InvoiceLines, Metering

from ..notation import Clock

YEAR = 2026
METERS = ("calls", "seats", "storage", "requests")
Bounds = tuple[datetime, datetime]


class Usage(NamedTuple):
    """An event, in the order of its recording."""

    identifier: str
    meter: str
    customer: str
    account: str
    value: Fraction
    occurred_at: datetime
    arrival: int


class Key(NamedTuple):
    """A closed period of a customer on a meter."""

    meter: str
    customer: str
    start: datetime


@dataclass(frozen=True)
class Rules:
    """The rules of a meter from a month on."""

    formula: str
    multiplier: int = 1
    by_day: bool = False

    def quantity(self, usage: list[Usage]) -> Fraction:
        """Return the quantity of the usage of a period."""
        if self.by_day:
            newest = {one.occurred_at.date(): one for one in sorted(usage, key=lambda one: one.arrival)}
            usage = list(newest.values())
        values = [one.value for one in sorted(usage, key=lambda one: (one.occurred_at, one.arrival))]
        aggregates: dict[str, Callable[[], Fraction]] = {
            "sum": lambda: sum(values, Fraction()),
            "max": lambda: max(values, default=Fraction()),
            "last": lambda: values[-1] if values else Fraction(),
        }
        return aggregates[self.formula]() * self.multiplier


def month_start(month: int) -> datetime:
    """Return the start of a month; 13 is January of the next year."""
    return datetime(YEAR + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)


@dataclass
class Year:
    """A ledger, what was recorded in it, and what was invoiced."""

    random: random.Random
    customers: list[str]
    months: int
    clock: Clock = field(default_factory=lambda: Clock(month_start(1)))
    usage: dict[str, Usage] = field(default_factory=dict[str, Usage])
    cancelled: set[str] = field(default_factory=set[str])
    quantities: defaultdict[Key, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    billed: defaultdict[Key, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    seen: set[str] = field(default_factory=set[str])
    closed_under: dict[Key, tuple[Rules, Bounds]] = field(default_factory=dict[Key, tuple[Rules, Bounds]])

    def __post_init__(self) -> None:
        policy = AcceptancePolicy(max_age=None, cancel_window=None)
        self.metering = Metering.open("sqlite://", policy=policy, clock=self.clock)
        meters = self.metering.meters
        meters.configure("calls", formula="sum", customer_key="customer", value_key="value")
        meters.configure("seats", formula="max", customer_key="customer", value_key="value")
        meters.configure("storage", formula="last", event_time_window="day", customer_key="customer", value_key="value")
        meters.configure(
            "requests", formula="sum", customer_key="customer", value_key="value", dimension_keys=["region"]
        )
        # Some customers are billed in another timezone, from the first month or from a later one on.
        self.moves = {customer: self.random.randint(1, self.months) for customer in self.customers[::4]}
        self.last_end: dict[str, datetime] = {}

    def rules(self, meter: str, month: int) -> Rules:
        """Return the rules under which a month is closed."""
        if meter == "calls":
            return Rules("sum", multiplier=1 if month < 3 else 3)  # a contract from March on
        if meter == "seats":
            return Rules("max" if month < 2 else "last")  # all usage, once February ends
        return Rules("last", by_day=True) if meter == "storage" else Rules("sum")

    def change_rules(self, month: int) -> None:
        """Make the changes that are decided in a month."""
        change = self.metering.rules.change
        if month == 2:
            change("seats", {"formula": "last"}, reason="all usage counts otherwise")
            change("calls", {"multiplier": "3"}, effective_from=month_start(3), reason="contract")
            change("requests", {"customer_key": "account"}, effective_from=month_start(3), reason="accounts pay")

    def record(self, month: int) -> None:
        """Record usage of a month, late and negative usage of earlier ones, and cancellations."""
        inputs: list[dict[str, object]] = []
        for customer in self.customers:
            for meter in METERS:
                for _ in range(self.random.choice((0, 1, 3))):
                    of_month = max(1, month - self.random.choice((0, 0, 0, 0, 1, 2)))
                    inputs.append(self._input(meter, customer, of_month))
        for receipt in self.metering.record_many(inputs):
            assert receipt.outcome == "accepted"
        counted = [one for one in self.usage if one not in self.cancelled]
        for identifier in self.random.sample(counted, len(counted) // 30):
            self.metering.cancel(self.usage[identifier].meter, identifier, reason="wrong")
            self.cancelled.add(identifier)

    def _input(self, meter: str, customer: str, month: int) -> dict[str, object]:
        # No usage in the last hours of the year: those of another timezone belong to the next one.
        minutes = self.random.randrange(28 * 24 * 60 - 180)
        occurred_at = month_start(month) + timedelta(minutes=minutes) + timedelta(days=self.random.randrange(0, 3))
        occurred_at = min(occurred_at, month_start(month + 1) - timedelta(hours=self.random.choice((3, 4, 9))))
        value = self.random.randint(-2 if meter == "calls" else 1, 9)
        account = self.random.choice(self.customers)
        identifier = f"{meter}-{len(self.usage)}"
        usage = Usage(identifier, meter, customer, account, Fraction(value), occurred_at, len(self.usage))
        self.usage[identifier] = usage
        payload = {"customer": customer, "account": account, "value": str(value)}
        payload |= {"region": self.random.choice(("eu", "us"))} if meter == "requests" else {}
        return {"event_name": meter, "identifier": identifier, "timestamp": occurred_at, "payload": payload}

    def close(self, month: int) -> None:
        """Close a month: other timezones customer by customer, the others by runs, of which one is interrupted."""
        self.clock.now = month_start(month + 1) + timedelta(days=1, hours=2)
        for customer, moved in self.moves.items():
            if month >= moved:
                self._close_in_berlin(customer, month)
        bounds = month_start(month), month_start(month + 1)
        plain = [meter for meter in METERS if meter != "requests"]
        for meters, group_by in ((plain, ()), (["requests"], ("region",))):
            for progress in (self._interrupt, None):
                try:
                    self.metering.periods.run(*bounds, meters=meters, group_by=group_by, progress=progress)
                except _Interrupted:
                    continue
                break
        for customer in self.customers:
            for meter in METERS:
                if customer not in self.moves or month < self.moves[customer]:
                    self.closed_under[Key(meter, customer, bounds[0])] = self.rules(meter, month), bounds

    def _close_in_berlin(self, customer: str, month: int) -> None:
        cycle = BillingCycle("month", "Europe/Berlin")
        if month == self.moves[customer]:
            previous = month_start(month) if month > 1 else cycle.period_containing(month_start(1))[0]
        else:
            previous = self.last_end[customer]
        bounds = previous, cycle.period_containing(month_start(month) + timedelta(days=10))[1]
        self.last_end[customer] = bounds[1]
        for meter in METERS:
            try:
                self._close_period(meter, customer, bounds, month)
            except RulesChangeInRange:  # March begins an hour earlier there: it is closed in two parts
                self._close_period(meter, customer, (bounds[0], month_start(month)), month - 1)
                self._close_period(meter, customer, (month_start(month), bounds[1]), month)

    def _close_period(self, meter: str, customer: str, bounds: Bounds, month: int) -> None:
        self.metering.periods.close(meter, customer, *bounds, allow_empty=True)
        self.closed_under[Key(meter, customer, bounds[0])] = self.rules(meter, month), bounds

    def _interrupt(self, _done: int, _all: int, _meter: str) -> None:
        if self.random.random() < 0.5:
            raise _Interrupted

    def close_again(self, month: int) -> None:
        """Reopen some closed periods and close them again: their invoices are withdrawn, if they have any yet."""
        for meter in METERS:
            closed = self.metering.periods.list(meter)
            for period in self.random.sample(closed, max(1, len(closed) // 40)):
                bounds = period.start, period.end
                periods, key = self.metering.periods, Key(meter, period.customer, period.start)
                preview = periods.preview(meter, period.customer, *bounds)
                periods.reopen(meter, period.customer, *bounds, reason="wrong figures", withdraw_settlements=True)
                again = periods.close(meter, period.customer, *bounds, allow_empty=True)
                assert (again.quantity, again.billable) == (preview.totals.quantity, preview.totals.billable)
                if period.end <= month_start(month):
                    self.quantities[key], self.billed[key] = Fraction(again.quantity), Fraction(again.billable)

    def invoice(self, month: int) -> None:
        """Take the lines of a month, of which the adjustments are settled; once after an interruption."""
        bounds = month_start(month), month_start(month + 1)
        lines = self.metering.periods.invoice_lines(*bounds)
        self.record(month)  # usage that arrives between the invoices and their settlement
        settled = self.metering.periods.invoice_lines(*bounds, as_of=lines.position, settle=f"run {month}")
        assert settled.lines == lines.lines
        self.add(lines)

    def add(self, lines: InvoiceLines) -> None:
        """Add lines to what was invoiced."""
        for line in lines.lines:
            self.seen |= {str(line.kind), *(["late"] if line.is_late else []), *(["group"] if line.dimensions else [])}
            key = Key(line.event_name, line.customer, line.start)
            self.quantities[key] += Fraction(line.quantity)
            self.billed[key] += Fraction(line.billable)

    def expected(self) -> Iterator[tuple[Key, Fraction]]:
        """Yield the quantity of each closed period now, under the rules that it was closed under."""
        of_customer: defaultdict[tuple[str, str], list[Usage]] = defaultdict(list)
        for one in self.usage.values():
            if one.identifier not in self.cancelled:
                is_moved = one.meter == "requests" and one.occurred_at >= month_start(3)
                of_customer[one.meter, one.account if is_moved else one.customer].append(one)
        for key, (rules, bounds) in self.closed_under.items():
            start, end = map(_next_day, bounds) if rules.by_day else bounds  # whole windows
            usage = of_customer[key.meter, key.customer]
            yield key, rules.quantity([one for one in usage if start <= one.occurred_at < end])


class _Interrupted(Exception):
    """The billing run was interrupted."""


def _next_day(at: datetime) -> datetime:
    day = at.replace(hour=0, minute=0)
    return day if day == at else day + timedelta(days=1)


def simulate(customers: int, months: int, seed: int) -> Year:
    """Simulate a year, and check it."""
    year = Year(random.Random(seed), [f"c{number}" for number in range(customers)], months)
    for month in range(1, months + 1):
        year.clock.now = month_start(month + 1) - timedelta(hours=1)
        year.record(month)
        year.change_rules(month)
        year.close(month)
        year.close_again(month)
        year.invoice(month)
    year.add(year.metering.periods.invoice_lines(month_start(months + 1), month_start(months + 2), settle="last"))
    periods = year.metering.periods
    for key, quantity in year.expected():
        assert year.quantities[key] == quantity, key
        if key.meter != "requests":  # each group is billed for itself
            assert year.billed[key] == max(quantity, 0), key
    assert sum(year.quantities.values()) == sum(quantity for _, quantity in year.expected())
    status = periods.status(month_start(1), month_start(months + 1))
    assert status.is_complete, [usage for meter in status.meters for usage in meter.unbilled]
    for meter in METERS:
        assert [one for one in periods.adjustments(meter) if one.difference or one.is_open] == []
        for adjustment in periods.adjustments(meter, settled=True):
            roll = adjustment.roll_forward
            parts = (roll.late, roll.cancelled, roll.superseded, roll.restored, roll.recalculated)
            assert roll.frozen + sum(parts, Decimal()) == roll.now == roll.frozen + roll.settled
    assert year.metering.verify().is_equal
    return year


@pytest.mark.parametrize("seed", range(4))
def test_a_year_of_invoices_adds_up_to_the_usage(seed: int) -> None:
    """For every customer, meter and period: the lines and the settled adjustments are its usage; no usage is left."""
    year = simulate(customers=8, months=4, seed=seed)
    assert year.seen == {"usage", "adjustment", "late", "group"}


if __name__ == "__main__":
    simulate(*map(int, sys.argv[1:4]))
