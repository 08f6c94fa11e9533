"""The ranges that were billed on a meter for all customers, and the customers whose first usage came too late for them.

Such a range is that of a billing run, or one that periods of the meter were closed with one by one. Usage of a customer
without a closing there that was recorded afterwards is owed as an adjustment of the range, as if a period without usage
had been closed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from ...domain.billing_run import BillingRun
from ...domain.closed_bounds import fit_counted_range
from ...domain.closed_period import ClosedPeriod
from ...domain.counting import usage_digest
from ...domain.decimals import ZERO
from ...domain.rules import Rules
from ...domain.rules_schedule import RulesSchedule
from ...domain.timestamps import from_microseconds, to_microseconds
from ...projections.models import AsOf
from ...projections.usage_view import UsageView, VerdictChange
from ..ledger.closings import StoredClosing
from .meter_query import Bounds, OpenMeter
from .range_views import schedule_at_closing
from .total_results import CountedRange


class BilledRange(NamedTuple):
    """A range that was billed for all customers of a meter, from the events up to a position, under these rules.

    `counted` is the range of its usage: that of its event time windows.
    """

    bounds: Bounds
    counted: Bounds
    position: int
    rules: Rules
    revision: int
    billed_at: datetime

    def view(self, meter: OpenMeter) -> UsageView:
        """Return the usage of the range under the rules that it was billed under."""
        schedule = schedule_at_closing(meter, self.counted, self.rules, self.revision)
        return meter.views.exact_view(schedule, *self.counted)

    def empty_period(self, event_name: str, customer: str, counted: Bounds) -> ClosedPeriod:
        """Return the closed period without usage that stands for a customer without a closing in the range.

        `counted` is the range of the customer's usage.
        """
        start, end = map(from_microseconds, self.bounds)
        counted_range = CountedRange.of(start, end, counted)
        return ClosedPeriod(
            event_name=event_name, customer=customer, start=start, end=end, closed_at=self.billed_at, quantity=ZERO,
            billable=ZERO, sum=ZERO, count=0, last=None, rules=self.rules, revision=self.revision,
            position=self.position, digest=usage_digest(()), counted_from=counted_range.counted_from,
            counted_until=counted_range.counted_until,
        )  # fmt: skip


class ClosedBounds(NamedTuple):
    """The bounds of a closed period, and the range of its usage."""

    bounds: Bounds
    counted: Bounds


class ClosedRange:
    """A range with the last of the closings that have exactly these bounds, and their number."""

    def __init__(self) -> None:
        self.last: StoredClosing | None = None
        self.count = 0

    def add(self, closing: StoredClosing) -> None:
        """Add a closing."""
        self.count += 1
        if self.last is None or closing.closing.position > self.last.closing.position:
            self.last = closing


def billed_ranges(
    event_name: str,
    runs: Iterable[BillingRun],
    closed_ranges: Mapping[Bounds, ClosedRange],
    schedule_at: Callable[[int], RulesSchedule],
) -> list[BilledRange]:
    """Return the ranges that were billed, in order of time; they never overlap, so usage is owed at most once.

    Of ranges that overlap, a run precedes closings one by one, and of ranges that were closed one by one the one with
    the most closings counts. `schedule_at` returns the rules known at a position. The usage of ranges that adjoin
    adjoins too, as that of closed periods does.
    """
    selected = ranges_of_runs(event_name, runs, closed_ranges, schedule_at)
    for bounds, closed in sorted(closed_ranges.items(), key=lambda item: (-item[1].count, item[0])):
        if closed.last is not None:
            closing, rules = closed.last.closing, decode_rules(bytes(closed.last.closing.rules))
            counted = closed.last.counted
            _select(
                selected,
                BilledRange(bounds, counted, closing.position, rules, closing.revision, closing.recorded_at),
            )
    return sorted(selected, key=lambda billed: billed.bounds)


def ranges_of_runs(
    event_name: str,
    runs: Iterable[BillingRun],
    closed_ranges: Mapping[Bounds, ClosedRange],
    schedule_at: Callable[[int], RulesSchedule],
) -> list[BilledRange]:
    """Return the ranges that were billed by runs; they never overlap.

    A run whose closings were all reopened has billed nothing. Of ranges that overlap, one with closings precedes one
    without, for which there was no usage, and an earlier run a later one.
    """
    selected: list[BilledRange] = []
    closed_runs = [
        (run.closed_at, run, (to_microseconds(run.start), to_microseconds(run.end)))
        for run in runs
        if run.closed_at is not None and event_name in run.event_names
    ]
    for closed_at, run, bounds in sorted(closed_runs, key=lambda closed: closed[2] not in closed_ranges):
        if bounds not in closed_ranges and run.has_closed(event_name):
            continue
        parts = list(schedule_at(run.position).quantity_ranges(*bounds))
        if len(parts) == 1:  # otherwise the run could not close the meter, or no window starts in the period
            first, last, effective = parts[0]
            _select(
                selected,
                BilledRange(bounds, (first, last), run.position, effective.rules, effective.revision, closed_at),
            )
    return selected


def _select(selected: list[BilledRange], billed: BilledRange) -> None:
    """Add a billed range to the selected ones, unless it overlaps one of them."""
    start, end = billed.bounds
    if all(end <= other.bounds[0] or other.bounds[1] <= start for other in selected):
        others = ((other.bounds, other.counted) for other in selected)
        counted = fit_counted_range(others, billed.bounds, billed.counted)
        if counted[0] < counted[1]:
            selected.append(billed._replace(counted=counted))


def late_customers(
    meter: OpenMeter,
    billed: BilledRange,
    has_closing: Callable[[str, Bounds], bool],
    customer: str | None = None,
) -> Iterator[str]:
    """Yield the customers without a closing in a billed range whose usage in it was all recorded afterwards.

    `has_closing` returns whether a closing of a customer overlaps a range. A customer with counted usage at the
    position of the range is none of them: it was left open. Neither is one whose usage the rules of the range filter:
    none of it is owed, so if it counts under later rules, it is open. With `customer`, only this one is examined.
    """
    view, (start, end), known = billed.view(meter), billed.counted, AsOf(position=billed.position)
    now = meter.as_of
    changes = view.last_changes(start, end, billed.position)
    if customer is not None:
        customer_id = view.customer_id(customer)
        ids: Collection[int] = [customer_id] if customer_id is not None else []
        ids = [one for one in ids if changes is None or one in changes]
    elif changes is not None:
        ids = changes
    else:
        ids = [usage.customer_id for usage in view.usage_by_customer(start, end)]
    for customer_id, name in view.customer_names(ids).items():
        if not has_closing(name, billed.bounds) and _is_late(view.changes(customer_id, start, end, known, now)):
            yield name


def _is_late(history: Iterable[VerdictChange]) -> bool:
    """Return whether no event of a range counted when it was billed, and one that isn't filtered has changed since."""
    is_changed = False
    for change in history:
        if change.before is not None and change.before.is_counted:
            return False
        is_changed = is_changed or (change.now != change.before and not change.now.record.is_filtered)
    return is_changed


@lru_cache(maxsize=256)
def decode_rules(stored: bytes) -> Rules:
    """Return the rules of a closing from their JSON. Most closings of a meter have the same."""
    return Rules.model_validate_json(stored)


class ClosingsIndex:
    """The ranges and the customers of the closings of a meter that are not reopened."""

    def __init__(self) -> None:
        self.ranges: dict[Bounds, ClosedRange] = {}
        self.of_customer: dict[str, list[ClosedBounds]] = {}

    def add(self, customer: str, closings: Sequence[StoredClosing]) -> None:
        """Add the closings of a customer."""
        if closings:
            self.of_customer[customer] = [ClosedBounds(closing.bounds, closing.counted) for closing in closings]
        for closing in closings:
            self.ranges.setdefault(closing.bounds, ClosedRange()).add(closing)

    def has_closing(self, customer: str, bounds: Bounds) -> bool:
        """Return whether a closing of a customer overlaps a range."""
        start, end = bounds
        return any(first < end and start < last for (first, last), _ in self.of_customer.get(customer, ()))

    def counted_range(self, customer: str, billed: BilledRange) -> Bounds:
        """Return the range of the usage of a customer without a closing in a billed range; it adjoins its closings."""
        return fit_counted_range(self.of_customer.get(customer, ()), billed.bounds, billed.counted)


def overlaps(bounds: Bounds, first: int | None, last: int | None) -> bool:
    """Return whether a range overlaps [first, last), which is open at an end that is None."""
    return (first is None or bounds[1] > first) and (last is None or bounds[0] < last)
