"""Whether all usage of a period is billed: by a closing, or as an adjustment. What is in neither is reported."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cache, partial

from ...domain.billing_run import BillingRun
from ...domain.closed_bounds import fit_counted_range
from ...domain.timestamps import from_microseconds
from ...projections.models import AsOf
from ...projections.ports import ReadModelReader
from ..adjustment_results import PeriodGap
from ..billing_results import (
    BillingRunView,
    MeterPeriodStatus,
    PartialClosing,
    PeriodStatus,
    UnbilledReason,
    UnbilledUsage,
)
from ..ledger.closings import billing_runs, read_closings
from ..ledger.ledger import Ledger
from .billed_ranges import ClosedBounds, ClosingsIndex, billed_ranges, late_customers, overlaps
from .gaps import compute_gap, compute_gaps
from .meter_query import Bounds, MeterQueryFactory, OpenMeter

_EMPTY_HISTORY = (0, 0)


class Completeness:
    """Computes the status of a period."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries

    def status(
        self, bounds: Bounds, event_names: Sequence[str] | None, as_of: AsOf | None, limit: int | None
    ) -> PeriodStatus:
        """Return the status of a period on some meters, on all if None, with up to `limit` entries in each list."""
        with self._meter_queries.session() as read_models:
            position = read_models.position()
            known = as_of or AsOf(position=position)
            if event_names is None:
                event_names = [meter.event_name for meter in self._ledger.meters(known)]
            all_runs = billing_runs(self._ledger, known)
            meters = [
                _MeterStatus(self._ledger, self._meter_queries, read_models, name, known, all_runs).compute(
                    bounds, limit
                )
                for name in event_names
            ]
        runs = tuple(
            BillingRunView.from_run(run)
            for run in all_runs
            if run.start < from_microseconds(bounds[1]) and from_microseconds(bounds[0]) < run.end
        )
        start, end = map(from_microseconds, bounds)
        return PeriodStatus(start, end, min(position, known.position), tuple(meters), runs)


class _MeterStatus:
    """Computes the status of a period on one meter."""

    def __init__(
        self,
        ledger: Ledger,
        meter_queries: MeterQueryFactory,
        read_models: ReadModelReader,
        event_name: str,
        as_of: AsOf,
        runs: Sequence[BillingRun],
    ) -> None:
        self._ledger = ledger
        self._runs = runs
        self._as_of = as_of
        self._open: Callable[[AsOf], OpenMeter] = cache(partial(meter_queries.open_meter, read_models, event_name))
        self._meter = self._open(as_of)
        self._index = ClosingsIndex()
        self._histories: dict[str, Bounds] = {}
        """By customer, the start of the first closing and the end of the last one."""

    def compute(self, bounds: Bounds, limit: int | None) -> MeterPeriodStatus:
        """Return the status of a period, with up to `limit` entries in each list."""
        closed = 0
        partial_closings: list[PartialClosing] = []
        for known in read_closings(self._ledger.ledger_recorder, self._meter.event_name, None, self._as_of):
            self._index.add(known.customer, known.closings)
            closed += known.find(bounds) is not None
            if known.closings:
                starts, ends = zip(*(closing.bounds for closing in known.closings), strict=True)
                self._histories[known.customer] = min(starts), max(ends)
            partial_closings += [
                PartialClosing(self._meter.event_name, known.customer, *map(from_microseconds, closing.bounds))
                for closing in known.overlapping(*bounds)
                if closing.bounds != bounds
            ]
        late = self._late_ranges(bounds)
        unbilled = list(self._unbilled(bounds, late))
        return MeterPeriodStatus(
            event_name=self._meter.event_name,
            closed_customers=closed,
            late_customers=len(late),
            open_customers=len({usage.customer for usage in unbilled if usage.reason is UnbilledReason.OPEN}),
            unbilled_customers=len({usage.customer for usage in unbilled}),
            unbilled_events=sum(usage.count for usage in unbilled),
            unbilled_count=len(unbilled),
            unbilled=tuple(unbilled[:limit]),
            partial_closing_count=len(partial_closings),
            partial_closings=tuple(partial_closings[:limit]),
        )

    def _late_ranges(self, bounds: Bounds) -> dict[str, list[ClosedBounds]]:
        """Return the ranges that late customers owe usage of as adjustments, by customer."""
        billed = billed_ranges(
            self._meter.event_name, self._runs, self._index.ranges,
            lambda position: self._open(AsOf(position=position)).schedule,
        )  # fmt: skip
        late: defaultdict[str, list[ClosedBounds]] = defaultdict(list)
        for billed_range in billed:
            if overlaps(billed_range.bounds, *bounds):
                for customer in late_customers(self._meter, billed_range, self._index.has_closing):
                    counted = self._index.counted_range(customer, billed_range)
                    late[customer].append(ClosedBounds(billed_range.bounds, counted))
        return late

    def _unbilled(self, bounds: Bounds, late: dict[str, list[ClosedBounds]]) -> Iterator[UnbilledUsage]:
        """Yield the usage in no closing and no adjustment, by customer and start."""
        by_range: defaultdict[Bounds, list[str]] = defaultdict(list)
        gaps: list[PeriodGap] = []
        whole_windows = cache(self._meter.whole_windows)
        for customer in self._customers_with_usage(bounds):
            billed = self._index.of_customer.get(customer, []) + late.get(customer, [])
            for uncovered in _subtract(bounds, [closed.bounds for closed in billed]):
                counted = fit_counted_range(billed, uncovered, whole_windows(uncovered))
                if counted == whole_windows(uncovered):
                    by_range[uncovered].append(customer)
                else:  # rules with other windows applied when an adjoining period was closed
                    gaps += compute_gap(self._meter, customer, uncovered, counted)
        gaps += compute_gaps(self._meter, by_range)
        for usage in sorted(gaps, key=lambda gap: (gap.customer, gap.start)):
            if usage.count:
                yield UnbilledUsage(
                    usage.event_name, usage.customer, usage.start, usage.end,
                    self._reason(usage.customer, usage.start, usage.end, bounds), usage.value, usage.count,
                )  # fmt: skip

    def _customers_with_usage(self, bounds: Bounds) -> set[str]:
        """Return the customers with usage in a period, and others with closings if these may have other windows."""
        view = self._meter.query(bounds).view
        customer_ids = {customer_id for _, customer_id, _ in view.totals(None, bounds, self._as_of)}
        customers = set(view.customer_names(customer_ids).values())
        return customers | self._index.of_customer.keys() if self._meter.views.has_windows else customers

    def _reason(self, customer: str, start: datetime, end: datetime, bounds: Bounds) -> UnbilledReason:
        if not self._index.has_closing(customer, bounds):
            first, last = self._histories.get(customer, _EMPTY_HISTORY)
            return UnbilledReason.GAP if first < bounds[0] and last > bounds[1] else UnbilledReason.OPEN
        first, last = self._histories[customer]
        is_between = from_microseconds(first) < start and end < from_microseconds(last)
        return UnbilledReason.GAP if is_between else UnbilledReason.PARTLY_CLOSED


def _subtract(bounds: Bounds, covered: Sequence[Bounds]) -> list[Bounds]:
    """Return the parts of a range that none of these ranges covers, in order."""
    parts: list[Bounds] = []
    start, end = bounds
    for first, last in sorted(covered):
        if start < min(first, end):
            parts.append((start, min(first, end)))
        start = max(start, last)
    if start < end:
        parts.append((start, end))
    return parts
