"""Closed periods and what is owed on them: the signed difference since each was closed."""

from datetime import datetime
from decimal import Decimal
from functools import reduce

from ...domain.counting import usage_digest
from ...domain.customer_periods import ClosedPeriod, PeriodTotals
from ...domain.decimals import EXACT_CONTEXT, ZERO, billable
from ...domain.rules import Formula
from ...domain.timestamps import to_microseconds
from ...projections.models import AsOf
from ...projections.totals import Totals
from ...projections.usage_view import UsageVerdict, UsageView, VerdictChange
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..results import AdjustingEvent, Adjustment, PeriodGap
from ..validation import optional_customer, optional_time_range, parse_as_of, require_event_name
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
    ) -> list[Adjustment]:
        """Return what is owed, signed, on each closed period that overlaps [start, end), with the events behind it.

        Totals are computed under the rules that the period was closed under; the difference that the current rules
        would make is reported in `rules_difference` and not owed. A closed period without later changes has no
        adjustment.
        """
        event_name, customer = require_event_name(event_name), optional_customer(customer)
        bounds, known = optional_time_range(start, end), parse_as_of(as_of)
        with self._meter_queries.session() as read_models:
            query = self._meter_queries.meter_query(read_models, event_name, known)
            meter = read_models.meters()[event_name]
            known = known or AsOf(position=read_models.position())
            periods = [
                period for period in self._closed_periods(event_name, customer, bounds, known) if period.is_closed
            ]
            rules_by_revision = {period.revision: period.rules for period in periods}
            views = {
                revision: self._meter_queries.usage_view(read_models, meter, rules)
                for revision, rules in rules_by_revision.items()
            }
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

    def _adjustment(self, view: UsageView, query: MeterQuery, period: ClosedPeriod) -> Adjustment | None:
        """Return what is owed on a period under the rules it was closed under; None if nothing has changed."""
        formula = period.rules.formula
        query = query._replace(as_of=_as_of_including(query.as_of, period))
        history = _changes_since(view, period, query.as_of)
        before = Totals.from_usage(
            [change.before.record for change in history if change.before and change.before.is_counted]
        )
        now = Totals.from_usage([change.now.record for change in history if change.now.is_counted])
        last_positions = {before.last_position, now.last_position}
        changed = [
            (change, difference)
            for change in history
            if change.before is not change.now or change.now.record.position in last_positions
            if _has_changed(change, difference := _contribution_change(change, before, now, formula))
        ]
        quantity = now.quantity(formula)
        rules_difference = EXACT_CONTEXT.subtract(_quantity_under_current_rules(query, period, quantity), quantity)
        if not changed and not rules_difference and quantity == period.quantity:
            return None
        events = event_view_fields(self._ledger, [change.now for change, _ in changed], period.rules)
        return Adjustment(
            period=period,
            quantity=quantity,
            billable=billable(quantity),
            difference=EXACT_CONTEXT.subtract(quantity, period.quantity),
            billable_difference=EXACT_CONTEXT.subtract(billable(quantity), period.billable),
            rules_difference=rules_difference,
            position=query.position,
            events=tuple(
                AdjustingEvent(*fields, before=change.before and verdict_for(change.before), change=difference)
                for fields, (change, difference) in zip(events, changed, strict=True)
            ),
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


def compute_period_totals(query: MeterQuery, customer: str, bounds: tuple[int, int]) -> PeriodTotals:
    """Return the totals of a customer in a range, with the rules, position and digest they were computed from."""
    verdicts = query.view.verdicts(query.customer_id(customer), *bounds, query.as_of)
    counted = [verdict.record for verdict in verdicts if verdict.is_counted]
    totals = Totals.from_usage(counted)
    quantity = totals.quantity(query.rules.formula)
    return PeriodTotals(
        quantity=quantity,
        billable=billable(quantity),
        sum=totals.sum,
        count=totals.count,
        last=totals.last,
        rules=query.rules,
        revision=query.revision,
        position=query.position,
        digest=usage_digest(counted),
    )


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
    return reduce(Totals.merge, totals.values(), Totals()).quantity(query.rules.formula)


def _contribution_change(change: VerdictChange, before: Totals, now: Totals, formula: Formula) -> Decimal:
    """Return what an event contributes now beyond what it contributed at the closing."""
    return EXACT_CONTEXT.subtract(
        _contribution(change.now, now, formula), _contribution(change.before, before, formula)
    )


def _contribution(verdict: UsageVerdict | None, totals: Totals, formula: Formula) -> Decimal:
    if verdict is None or not verdict.is_counted:
        return ZERO
    return totals.contribution(verdict.record, formula)


def _has_changed(change: VerdictChange, difference: Decimal) -> bool:
    """Return whether an event was recorded since, got another verdict, or contributes another amount."""
    return change.before is None or verdict_for(change.now) != verdict_for(change.before) or difference != 0
