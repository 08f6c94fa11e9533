"""The totals of a period when it is closed, with the rules, position and digest they are computed from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from ...domain.closed_period import ClosedPeriod, PeriodGroup, PeriodTotals
from ...domain.counting import UsageRecord, usage_digest
from ...domain.customer_periods import CustomerPeriods
from ...domain.rules import Rules
from ...domain.rules_schedule import bound_to_datetime
from ...domain.timestamps import to_microseconds
from ...domain.totals import Totals
from ...projections.dimensions import DimensionGroups, Group, group_order
from ...projections.models import AsOf
from ...projections.usage_view import UsageView
from .dimension_query import DimensionArguments
from .meter_query import MeterQuery, OpenMeter
from .range_views import bounds_of, under_rules_of
from .total_results import CountedRange


def query_period(
    meter: OpenMeter,
    periods: CustomerPeriods,
    start: datetime,
    end: datetime,
    dimensions: DimensionArguments,
    previous: ClosedPeriod | None = None,
) -> MeterQuery:
    """Return a query of the usage to count in a period of a customer. See `CustomerPeriods.counted_range`.

    It is counted under the rules of the previous closing of the period if one is given, otherwise the current ones.
    """
    if previous is not None:
        meter = under_rules_of(meter, bounds_of(previous), previous.rules, previous.revision)
    whole_windows = meter.whole_windows((to_microseconds(start), to_microseconds(end)))
    counted_from, counted_until = periods.counted_range(start, end, *map(bound_to_datetime, whole_windows))
    return meter.closing_query((to_microseconds(counted_from), to_microseconds(counted_until)), dimensions)


def compute_period_totals(query: MeterQuery, customer: str, start: datetime, end: datetime) -> PeriodTotals:
    """Return the totals of a customer in the range of a query, with what they were computed from.

    `start` and `end` are those of the period.
    """
    return PeriodTotalsFactory(query, start, end).totals(counted_usage(query, customer))


def counted_usage(query: MeterQuery, customer: str) -> list[UsageRecord]:
    """Return the counted records of a customer in the range of a query, in order of time."""
    verdicts = query.view.verdicts(query.customer_id(customer), *query.view.bounds, query.as_of)
    return [verdict.record for verdict in verdicts if verdict.is_counted]


def group_keys(period: ClosedPeriod) -> tuple[str, ...]:
    """Return the dimensions that a period was closed by; none for a closing without usage."""
    return tuple(period.groups[0].dimensions) if period.groups else ()


def totals_at(meter: OpenMeter, period: ClosedPeriod, position: int, group_by: tuple[str, ...] = ()) -> PeriodTotals:
    """Return the totals of a closed period at a position, under the rules over time of `meter`."""
    query = meter.closing_query(bounds_of(period), DimensionArguments({}, group_by))
    query = query._replace(position=position, as_of=AsOf(position=position))
    return compute_period_totals(query, period.customer, period.start, period.end)


class PeriodTotalsFactory:
    """Computes the totals of customers in the range of a query. It looks up rules and position once, for all of them.

    `start` and `end` are those of the period.
    """

    def __init__(self, query: MeterQuery, start: datetime, end: datetime) -> None:
        """Raise RulesChangeInRange if the range of the query has no single quantity."""
        self._rules, self._revision, self._position = query.rules, query.revision, query.position
        self._view = query.view
        self._counted_range = CountedRange.of(start, end, query.view.bounds)

    @property
    def revision(self) -> int:
        """The revision of the rules that the totals are computed under."""
        return self._revision

    def totals(self, counted: Sequence[UsageRecord]) -> PeriodTotals:
        """Return the totals of the counted records of a customer."""
        rules, by_group = self._rules, totals_by_group(counted, self._view)
        totals = Totals.merge_all(list(by_group.values()))
        quantity = rules.quantity(totals)
        return PeriodTotals(
            quantity=quantity,
            billable=rules.billable(quantity),
            sum=totals.sum,
            count=totals.count,
            last=totals.last,
            rules=rules,
            revision=self._revision,
            position=self._position,
            digest=usage_digest(counted),
            groups=_period_groups(self._view.parts[-1].groups, rules, by_group),
            counted_from=self._counted_range.counted_from,
            counted_until=self._counted_range.counted_until,
        )


def totals_by_group(records: Sequence[UsageRecord], view: UsageView) -> dict[Group, Totals]:
    """Return the totals of records of a view by group, in the order of the groups."""
    by_group: defaultdict[Group, list[UsageRecord]] = defaultdict(list)
    for record in records:
        by_group[view.group_of(record)].append(record)
    return {group: Totals.with_unique_values(by_group[group]) for group in sorted(by_group, key=group_order)}


def _period_groups(
    groups: DimensionGroups, rules: Rules, totals_by_group: Mapping[Group, Totals]
) -> tuple[PeriodGroup, ...]:
    """Return the totals of each group; nothing if the closing doesn't group."""
    if not groups.group_by:
        return ()
    return tuple(
        PeriodGroup(
            dimensions=dict(zip(groups.group_by, group, strict=True)),
            quantity=(quantity := rules.quantity(totals)),
            billable=rules.billable(quantity),
            sum=totals.sum,
            count=totals.count,
            last=totals.last,
        )
        for group, totals in totals_by_group.items()
    )
