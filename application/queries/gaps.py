"""Gaps between the closed periods of a customer, and the usage in them."""

from collections import defaultdict
from collections.abc import Iterable

from ...domain.customer_periods import CustomerPeriods
from ...domain.timestamps import from_microseconds, to_microseconds
from ...domain.totals import Totals
from ..adjustment_results import PeriodGap
from .meter_query import Bounds, OpenMeter
from .period_totals import counted_usage

_CustomersByRange = dict[tuple[int, int], list[str]]


def gaps_by_range(customers: Iterable[CustomerPeriods], first: int | None, last: int | None) -> _CustomersByRange:
    """Return the customers with a gap, by its range in microseconds. Gaps overlap [first, last], or end or start there.

    None for a bound means that the range is open.
    """
    by_range: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for periods in customers:
        for gap_start, gap_end in periods.gaps():
            start, end = to_microseconds(gap_start), to_microseconds(gap_end)
            if (first is None or end >= first) and (last is None or start <= last):
                by_range[start, end].append(periods.customer)
    return by_range


def compute_gaps(meter: OpenMeter, by_range: _CustomersByRange) -> list[PeriodGap]:
    """Return each gap with its usage, by customer and start. A range that many customers share is read once.

    A gap in which the rules change so that it has no single quantity is returned as several ones. A gap in which no
    event time window starts can have no usage, and isn't returned.
    """
    gaps: list[PeriodGap] = []
    for gap_bounds, customers in by_range.items():
        quantity_ranges = list(meter.quantity_ranges(gap_bounds))
        starts = [gap_bounds[0], *(quantity_range.start for quantity_range in quantity_ranges[1:])]
        for start, end, quantity_range in zip(starts, [*starts[1:], gap_bounds[1]], quantity_ranges, strict=False):
            query, times = meter.query((start, end)), (from_microseconds(start), from_microseconds(end))
            only_customer = query.customer_id(customers[0]) if len(customers) == 1 else None
            by_customer = {
                customer_id: totals
                for (_, customer_id, _), totals in query.view.totals(only_customer, (start, end), query.as_of).items()
            }
            for customer in customers:
                totals = by_customer.get(query.customer_id(customer) or 0, Totals())
                quantity = quantity_range.effective.rules.quantity(totals)
                gaps.append(PeriodGap(meter.event_name, customer, *times, quantity, totals.count))
    return sorted(gaps, key=lambda gap: (gap.customer, gap.start))


def compute_gap(meter: OpenMeter, customer: str, bounds: Bounds, counted: Bounds) -> list[PeriodGap]:
    """Return a gap of a customer with the usage in the range `counted`, which need not consist of whole windows.

    A gap in which the rules change so that it has no single quantity is returned as several ones.
    """
    gaps: list[PeriodGap] = []
    quantity_ranges = list(meter.schedule.exact_quantity_ranges(*counted))
    starts = [bounds[0], *(quantity_range.start for quantity_range in quantity_ranges[1:])]
    for start, end, (first, last, effective) in zip(starts, [*starts[1:], bounds[1]], quantity_ranges, strict=False):
        totals = Totals.with_unique_values(counted_usage(meter.exact_query((first, last)), customer))
        times = from_microseconds(start), from_microseconds(end)
        gaps.append(PeriodGap(meter.event_name, customer, *times, effective.rules.quantity(totals), totals.count))
    return gaps
