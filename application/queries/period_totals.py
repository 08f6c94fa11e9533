"""The totals of a period when it is closed, with the rules, position and digest they are computed from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ...domain.counting import UsageRecord, usage_digest
from ...domain.customer_periods import PeriodGroup, PeriodTotals
from ...domain.rules import Rules
from ...domain.totals import Totals
from ...projections.dimensions import DimensionGroups, Group, group_order
from .meter_query import Bounds, MeterQuery


def compute_period_totals(query: MeterQuery, customer: str, bounds: Bounds) -> PeriodTotals:
    """Return the totals of a customer in a range, with the rules, position and digest they were computed from."""
    verdicts = query.view.verdicts(query.customer_id(customer), *bounds, query.as_of)
    return PeriodTotalsFactory(query).totals([verdict.record for verdict in verdicts if verdict.is_counted])


class PeriodTotalsFactory:
    """Computes the totals of customers in a range. It looks up rules and position once, for all customers."""

    def __init__(self, query: MeterQuery) -> None:
        """Raise RulesChangeInRange if the range of the query has no single quantity."""
        self._rules, self._revision, self._position = query.rules, query.revision, query.position
        self._groups = query.view.parts[-1].groups

    def totals(self, counted: Sequence[UsageRecord]) -> PeriodTotals:
        """Return the totals of the counted records of a customer."""
        rules, by_group = self._rules, totals_by_group(counted, self._groups)
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
            groups=_period_groups(self._groups, rules, by_group),
        )


def totals_by_group(records: Sequence[UsageRecord], groups: DimensionGroups) -> dict[Group, Totals]:
    """Return the totals of records by group, in the order of the groups."""
    by_group: defaultdict[Group, list[UsageRecord]] = defaultdict(list)
    for record in records:
        by_group[groups[record.dimensions]].append(record)
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
