"""The closed periods that may have an adjustment, found without reading the usage of the others.

The stored spans of changes tell which customers have changes since a closing. With 100,000 closings most have none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from ...domain.billing_run import BillingRun
from ...domain.closed_period import ClosedPeriod
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.rules import Rules
from ...domain.rules_schedule import RulesSchedule
from ..ledger.closings import StoredClosing, closed_periods, read_closings
from ..ledger.ledger import Ledger
from .billed_ranges import BilledRange, ClosingsIndex, billed_ranges, decode_rules, late_customers, overlaps
from .meter_query import Bounds, OpenMeter
from .range_views import are_current_rules, schedule_at_closing

FEW_CLOSINGS = 20
"""The usage of this many closings of one range is read, without asking first which customers have changes."""

_CLOSINGS_PER_READ = 500
_RANGE = attrgetter("start", "end")

_OpenBounds = tuple[int | None, int | None]


class ChangedPeriod(NamedTuple):
    """A closed period that may have an adjustment. `is_late` is set if it stands for a customer without a closing."""

    period: ClosedPeriod
    is_late: bool


class ChangedPeriods:
    """Finds the closed periods of a meter that may have an adjustment."""

    def __init__(
        self,
        ledger: Ledger,
        meter: OpenMeter,
        schedule_at: Callable[[int], RulesSchedule],
        runs: Sequence[BillingRun],
        *,
        is_partial: bool,
        with_settled: bool,
    ) -> None:
        """Use the closings and the billing `runs` known at `meter.as_of`.

        `is_partial` is whether the query selects or groups usage. `with_settled` includes the closings whose
        adjustments were settled, also if nothing has changed since.
        """
        self._ledger = ledger
        self._meter = meter
        self._schedule_at = cache(schedule_at)
        self._runs = runs
        self._is_partial = is_partial
        self._with_settled = with_settled

    def find(self, customer: str | None, bounds: _OpenBounds) -> Iterator[ChangedPeriod]:
        """Yield the closed periods that may have an adjustment, of one or of all customers, by their range.

        They are those that overlap `bounds`. One without usage stands for a customer without a closing. Some hundred
        whole periods are read at once, so that 100,000 need not be in memory.
        """
        recorder, event_name = self._ledger.ledger_recorder, self._meter.event_name
        by_range: defaultdict[Bounds, list[StoredClosing]] = defaultdict(list)
        index = ClosingsIndex()
        for known in read_closings(recorder, event_name, customer, self._meter.as_of):
            index.add(known.customer, known.closings)
            for closing in known.closings:
                if overlaps(closing.bounds, *bounds):
                    by_range[closing.counted].append(closing)
        closings = [closing for of_range in by_range.items() for closing in self._changed(*of_range)]
        remaining = iter(sorted(closings, key=attrgetter("bounds")))
        batches = iter(lambda: list(islice(remaining, _CLOSINGS_PER_READ)), [])
        read = (period for batch in batches for period in sorted(closed_periods(recorder, batch), key=_RANGE))
        late = sorted(self._late(index, customer, bounds), key=_RANGE)
        return merge(
            (ChangedPeriod(period, is_late=False) for period in read),
            (ChangedPeriod(period, is_late=True) for period in late),
            key=lambda found: _RANGE(found.period),
        )

    def _changed(self, counted: Bounds, closings: Sequence[StoredClosing]) -> Sequence[StoredClosing]:
        """Return the closings that counted one range whose usage may have changed, or that other rules may change."""
        if len(closings) <= FEW_CLOSINGS:
            return closings
        by_rules: defaultdict[tuple[bytes, int], list[StoredClosing]] = defaultdict(list)
        for closing in closings:
            by_rules[bytes(closing.closing.rules), closing.closing.revision].append(closing)
        changed: list[StoredClosing] = []
        quantities: Mapping[str, Decimal] | None = None
        for (stored_rules, revision), same_rules in by_rules.items():
            rules = decode_rules(stored_rules)
            last_changes = self._last_changes(
                counted, rules, revision, min(one.invoiced.position for one in same_rules)
            )
            if last_changes is None:
                changed += same_rules
                continue
            unchanged: list[StoredClosing] = []
            for closing in same_rules:
                is_settled = self._with_settled and bool(closing.settlements)
                is_changed = is_settled or last_changes.get(closing.closing.customer, 0) > closing.invoiced.position
                (changed if is_changed else unchanged).append(closing)
            if are_current_rules(self._meter, counted, rules, revision):
                continue
            if self._is_partial or self._meter.as_of is None or self._meter.whole_windows(counted) != counted:
                changed += unchanged
                continue
            quantities = self._current_quantities(counted) if quantities is None else quantities
            changed += [
                closing
                for closing in unchanged
                if quantities.get(closing.closing.customer, ZERO) != closing.invoiced.quantity
            ]
        return changed

    def _last_changes(self, counted: Bounds, rules: Rules, revision: int, after: int) -> Mapping[str, int] | None:
        schedule = schedule_at_closing(self._meter, counted, rules, revision)
        view = self._meter.views.exact_view(schedule, *counted)
        changes = view.last_changes(*counted, after)
        if changes is None:
            return None
        names = view.customer_names(changes)
        return {names[customer_id]: position for customer_id, position in changes.items()}

    def _current_quantities(self, counted: Bounds) -> Mapping[str, Decimal]:
        """Return the quantity of each customer with usage in a range of whole windows, under the current rules."""
        quantities: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
        for start, end, effective in self._meter.quantity_ranges(counted):
            query = self._meter.query((start, end))
            totals = query.view.totals(None, (start, end), query.as_of)
            names = query.view.customer_names({customer_id for _, customer_id, _ in totals})
            quantity = effective.rules.quantity_function()
            for (_, customer_id, _), of_customer in totals.items():
                name = names[customer_id]
                quantities[name] = EXACT_CONTEXT.add(quantities[name], quantity(of_customer))
        return quantities

    def _late(self, index: ClosingsIndex, customer: str | None, bounds: _OpenBounds) -> list[ClosedPeriod]:
        """Return a period without usage for each late customer of a billed range."""
        return [
            billed.empty_period(self._meter.event_name, late, index.counted_range(late, billed))
            for billed in self._billed_ranges(index, customer)
            if overlaps(billed.bounds, *bounds)
            for late in late_customers(self._meter, billed, index.has_closing, customer)
        ]

    def _billed_ranges(self, index: ClosingsIndex, customer: str | None) -> list[BilledRange]:
        as_of, event_name = self._meter.as_of, self._meter.event_name
        ranges = index.ranges
        if customer is not None:  # the closings of others tell which ranges were billed
            of_all = ClosingsIndex()
            for known in read_closings(self._ledger.ledger_recorder, event_name, None, as_of):
                of_all.add(known.customer, known.closings)
            ranges = of_all.ranges
        return billed_ranges(event_name, self._runs, ranges, self._schedule_at)
