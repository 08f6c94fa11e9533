"""Closed periods and what is owed on them: the signed difference since each was closed."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from ...domain.counting import UsageRecord, usage_digest
from ...domain.customer_periods import ClosedPeriod, PeriodGroup, PeriodTotals
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.rules import Rules
from ...domain.timestamps import to_microseconds
from ...domain.totals import Totals
from ...projections.dimensions import DimensionGroups, Group, group_order
from ...projections.models import AsOf
from ...projections.usage_view import UsageView, VerdictChange
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..results import AdjustingEvent, Adjustment, GroupAdjustment, PeriodGap
from ..validation import optional_customer, optional_time_range, parse_as_of, require_event_name
from .dimension_query import Where, parse_dimension_query
from .events import event_view_fields, verdict_for
from .gaps import compute_gaps, gaps_by_range
from .meter_query import MeterQuery, MeterQueryFactory

_Bounds = tuple[int | None, int | None]
"""The first and the last microsecond of a range that may be open at either end."""


class PeriodQueries:
    """Reads closed periods and computes their adjustments."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries

    @retry_on_connection_loss
    def adjustments(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> list[Adjustment]:
        """Return what is owed, signed, on each closed period that overlaps [start, end), with the events behind it.

        Totals are computed under the rules that the period was closed under; the difference that the current rules
        would make is reported in `rules_difference` and not owed. A closed period without later changes has no
        adjustment.

        `where` selects usage by its dimension values, and `group_by` adds the part of each combination of the values of
        these dimensions. Both name dimensions of the rules that the periods were closed under.
        """
        event_name, customer = require_event_name(event_name), optional_customer(customer)
        bounds, known = optional_time_range(start, end), parse_as_of(as_of)
        with self._meter_queries.session() as read_models:
            query = self._meter_queries.meter_query(read_models, event_name, known, where, group_by)
            meter = read_models.meters()[event_name]
            known = known or AsOf(position=read_models.position())
            periods = [
                period for period in self._closed_periods(event_name, customer, bounds, known) if period.is_closed
            ]
            rules_by_revision = {period.revision: period.rules for period in periods}
            views: dict[int, _PeriodView] = {}
            for revision, rules in rules_by_revision.items():
                selected, groups = parse_dimension_query(rules, where, group_by)
                view = self._meter_queries.usage_view(read_models, meter, rules, selected)
                views[revision] = _PeriodView(view, groups, is_partial=selected is not None)
            # Sorted by range: a view may parse a whole range at once, and then serves all customers from it.
            by_range = sorted(periods, key=lambda period: (period.start, period.end))
            computed = [self._adjustment(views[period.revision], query, period) for period in by_range]
        adjustments = [adjustment for adjustment in computed if adjustment is not None]
        return sorted(adjustments, key=lambda adjustment: (adjustment.period.customer, adjustment.period.start))

    def _closed_periods(
        self, event_name: str, customer: str | None, bounds: _Bounds, as_of: AsOf | None
    ) -> list[ClosedPeriod]:
        """Return all closings that overlap `bounds`, reopened ones too, by customer, start and order of closing."""
        first, last = bounds
        overlapping = [
            period
            for periods in self._ledger.closed_periods(event_name, customer, as_of)
            for period in periods.closed_periods
            if (first is None or to_microseconds(period.end) > first)
            and (last is None or to_microseconds(period.start) < last)
        ]
        return sorted(overlapping, key=lambda period: (period.customer, period.start))

    def _adjustment(self, period_view: "_PeriodView", query: MeterQuery, period: ClosedPeriod) -> Adjustment | None:
        """Return what is owed on a period under the rules it was closed under; None if nothing has changed."""
        rules, query = period.rules, query._replace(as_of=_as_of_including(query.as_of, period))
        history = _changes_since(period_view.view, period, query.as_of)
        counted_before = [change.before.record for change in history if change.before and change.before.is_counted]
        counted_now = [change.now.record for change in history if change.now.is_counted]
        before, now = Totals.with_unique_values(counted_before), Totals.with_unique_values(counted_now)
        changed = _changed_contributions(history, rules.contributions(before), rules.contributions(now))
        quantity = rules.quantity(now)
        quantity_before = rules.quantity(before) if period_view.is_partial else period.quantity
        billable_before = rules.billable(quantity_before) if period_view.is_partial else period.billable
        rules_difference = EXACT_CONTEXT.subtract(_quantity_under_current_rules(query, period, quantity), quantity)
        if not changed and not rules_difference and quantity == quantity_before:
            return None
        events = event_view_fields(self._ledger, [change.now for change, _ in changed], rules)
        return Adjustment(
            period=period,
            quantity=quantity,
            billable=rules.billable(quantity),
            difference=EXACT_CONTEXT.subtract(quantity, quantity_before),
            billable_difference=EXACT_CONTEXT.subtract(rules.billable(quantity), billable_before),
            rules_difference=rules_difference,
            position=query.position,
            events=tuple(
                AdjustingEvent(*fields, before=change.before and verdict_for(change.before), change=difference)
                for fields, (change, difference) in zip(events, changed, strict=True)
            ),
            groups=_group_adjustments(period_view.groups, rules, counted_before, counted_now),
        )

    @retry_on_connection_loss
    def gaps(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
    ) -> list[PeriodGap]:
        """Return the ranges between closed periods of a customer that belong to none of them, with their usage.

        By customer and start; of all customers if None. A gap is returned if it overlaps or adjoins [start, end), so
        the range of a closed period selects the gaps before and after it.
        """
        event_name, customer = require_event_name(event_name), optional_customer(customer)
        bounds, known = optional_time_range(start, end), parse_as_of(as_of)
        self._ledger.meter(event_name)
        by_range = gaps_by_range(self._ledger.closed_periods(event_name, customer, known), *bounds)
        if not by_range:
            return []
        with self._meter_queries.session() as read_models:
            return compute_gaps(self._meter_queries.meter_query(read_models, event_name, known), event_name, by_range)

    @retry_on_connection_loss
    def list(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        reopened: bool = False,
    ) -> list[ClosedPeriod]:
        """Return the closed periods that overlap [start, end), by customer and start; of all customers if None.

        With `reopened`, periods that were closed and reopened since are included.
        """
        event_name, customer = require_event_name(event_name), optional_customer(customer)
        bounds, known = optional_time_range(start, end), parse_as_of(as_of)
        self._ledger.meter(event_name)
        periods = self._closed_periods(event_name, customer, bounds, known)
        return [period for period in periods if reopened or period.is_closed]


class _PeriodView(NamedTuple):
    """The usage of a meter under the rules of closed periods; `is_partial` if not all dimension values are selected."""

    view: UsageView
    groups: DimensionGroups
    is_partial: bool


def compute_period_totals(query: MeterQuery, customer: str, bounds: tuple[int, int]) -> PeriodTotals:
    """Return the totals of a customer in a range, with the rules, position and digest they were computed from."""
    rules, verdicts = query.rules, query.view.verdicts(query.customer_id(customer), *bounds, query.as_of)
    counted = [verdict.record for verdict in verdicts if verdict.is_counted]
    by_group = _totals_by_group(counted, query.groups)
    totals = Totals.merge_all(list(by_group.values()))
    quantity = rules.quantity(totals)
    return PeriodTotals(
        quantity=quantity,
        billable=rules.billable(quantity),
        sum=totals.sum,
        count=totals.count,
        last=totals.last,
        rules=rules,
        revision=query.revision,
        position=query.position,
        digest=usage_digest(counted),
        groups=_period_groups(query.groups, rules, by_group),
    )


def _totals_by_group(records: Sequence[UsageRecord], groups: DimensionGroups) -> dict[Group, Totals]:
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


def _group_adjustments(
    groups: DimensionGroups, rules: Rules, before: Sequence[UsageRecord], now: Sequence[UsageRecord]
) -> tuple[GroupAdjustment, ...]:
    """Return the part of each group, given the events counted before and now; nothing if the query doesn't group."""
    if not groups.group_by:
        return ()
    totals_before, totals_now = _totals_by_group(before, groups), _totals_by_group(now, groups)
    adjustments: list[GroupAdjustment] = []
    for group in sorted(totals_before.keys() | totals_now.keys(), key=group_order):
        quantity = rules.quantity(totals_now.get(group, Totals()))
        quantity_before = rules.quantity(totals_before.get(group, Totals()))
        dimensions = dict(zip(groups.group_by, group, strict=True))
        adjustments.append(GroupAdjustment(dimensions, quantity, EXACT_CONTEXT.subtract(quantity, quantity_before)))
    return tuple(adjustments)


def _as_of_including(as_of: AsOf | None, period: ClosedPeriod) -> AsOf | None:
    """Extend `as_of` to everything the closing was computed from, even if the clock moved backwards since."""
    return as_of if as_of is None or as_of.position is not None else as_of._replace(position=period.position)


def _changes_since(view: UsageView, period: ClosedPeriod, as_of: AsOf | None) -> list[VerdictChange]:
    """Return the verdict of each event of a period at its closing and now."""
    customer_id = view.source.customer_id(period.customer) or 0
    bounds = to_microseconds(period.start), to_microseconds(period.end)
    return list(view.changes(customer_id, *bounds, AsOf(position=period.position), as_of))


def _quantity_under_current_rules(query: MeterQuery, period: ClosedPeriod, quantity: Decimal) -> Decimal:
    """Return the quantity of a period under the current rules; `quantity` is the one under its own rules."""
    if query.rules == period.rules:
        return quantity
    bounds = to_microseconds(period.start), to_microseconds(period.end)
    totals = query.view.totals(query.customer_id(period.customer), bounds, query.as_of)
    return query.rules.quantity(Totals.merge_all(list(totals.values())))


def _changed_contributions(
    history: Iterable[VerdictChange],
    contribution_before: Callable[[UsageRecord], Decimal],
    contribution_now: Callable[[UsageRecord], Decimal],
) -> list[tuple[VerdictChange, Decimal]]:
    """Return the events that were recorded since, or that have another verdict or contribution, with the difference."""
    changed: list[tuple[VerdictChange, Decimal]] = []
    for change in history:
        before, now = change.before, change.now
        old = contribution_before(before.record) if before is not None and before.is_counted else ZERO
        new = contribution_now(now.record) if now.is_counted else ZERO
        difference = EXACT_CONTEXT.subtract(new, old)
        if difference or (before is not now and (before is None or verdict_for(now) != verdict_for(before))):
            changed.append((change, difference))
    return changed
