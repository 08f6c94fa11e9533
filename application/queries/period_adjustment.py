"""The adjustment of one closed period: what has changed since it was closed, and since it was last invoiced."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from msgspec.structs import replace

from ...domain.closed_period import ClosedPeriod
from ...domain.counting import UsageRecord
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.rules import Rules
from ...domain.totals import Totals, unique_key
from ...projections.dimensions import group_order
from ...projections.models import AsOf
from ...projections.usage_view import UsageVerdict, UsageView, VerdictChange
from ..adjustment_results import AdjustingEvent, Adjustment, GroupAdjustment, RollForward
from ..interruption import check_interruption
from ..ledger.ledger import Ledger
from ..results import Verdict
from .dimension_query import DimensionArguments
from .events import event_view_fields, verdict_for
from .meter_query import OpenMeter
from .period_totals import totals_by_group
from .range_views import RangeViews, bounds_of


class _Change(NamedTuple):
    """An event whose verdict or contribution changed between two positions, and the difference."""

    event: VerdictChange
    difference: Decimal

    @property
    def verdict_before(self) -> Verdict | None:
        return None if self.event.before is None else verdict_for(self.event.before)

    @property
    def verdict_now(self) -> Verdict:
        return verdict_for(self.event.now)


class _Changes:
    """The changes of a period's usage between a position and now, under the rules that it was closed under."""

    def __init__(self, view: UsageView, period: ClosedPeriod, after: int, as_of: AsOf | None) -> None:
        rules, customer_id = period.rules, view.customer_id(period.customer) or 0

        changes = view.changes(customer_id, *bounds_of(period), AsOf(position=after), as_of)
        history = list(map(_without_long_text, changes))
        self.counted_before = [change.before.record for change in history if change.before and change.before.is_counted]
        self.counted_now = [change.now.record for change in history if change.now.is_counted]
        before, now = Totals.with_unique_values(self.counted_before), Totals.with_unique_values(self.counted_now)
        self.quantity_before, self.quantity_now = rules.quantity(before), rules.quantity(now)
        self.events = _changed_contributions(history, rules.contributions(before), rules.contributions(now))


class EventRange(NamedTuple):
    """Which events of an adjustment are read from the ledger; a million of them take gigabytes of memory.

    They are the first `max_events` after the event at `after`, all if None, or the last ones before that at `before`.
    An event is at its time in microseconds and its position.
    """

    max_events: int | None = None
    after: tuple[int, int] | None = None
    before: tuple[int, int] | None = None

    def select(self, changes: Sequence[_Change]) -> Sequence[_Change]:
        """Return the changes of these events, of changes in the order of time and position."""
        first = 0 if self.after is None else bisect_right(changes, self.after, key=_place)
        last = len(changes) if self.before is None else bisect_left(changes, self.before, key=_place)
        if self.max_events is not None:
            if self.before is None:
                last = min(last, first + self.max_events)
            else:
                first = max(first, last - self.max_events)
        return changes[first:last]


def _place(change: _Change) -> tuple[int, int]:
    record = change.event.now.record
    return record.occurred_at, record.position


class AdjustmentCalculator:
    """Computes the adjustments of closed periods of a meter, which are sorted by their range."""

    def __init__(
        self, ledger: Ledger, meter: OpenMeter, dimensions: DimensionArguments, *, with_settled: bool = False
    ) -> None:
        """Use the usage known at `meter.as_of`. With `with_settled`, adjustments that are settled are computed too."""
        self._ledger = ledger
        self._meter = meter
        self._views = RangeViews(meter, dimensions)
        self._with_settled = with_settled

    def adjustment(
        self, period: ClosedPeriod, *, is_late: bool, since_closing: bool = True, events: EventRange
    ) -> Adjustment | None:
        """Return what is owed on a period under the rules it was closed under; None if it has not changed.

        It may be settled: see `Adjustment.is_open`. Without `since_closing`, its roll-forward begins at the last
        settlement. That saves reading the usage once more for each settlement. Of its events, those in the range
        `events` are returned.
        """
        rules, invoiced, as_of = period.rules, period.invoiced, self._meter.as_of
        view = self._views.at_closing(period)
        changes, is_partial = _Changes(view, period, invoiced.position, as_of), self._views.is_partial
        quantity = changes.quantity_now
        quantity_before = changes.quantity_before if is_partial else invoiced.quantity
        billable_before = rules.billable(quantity_before) if is_partial else invoiced.billable
        current_quantity = _quantity_under_current_rules(self._views, period, as_of)
        rules_difference = ZERO if current_quantity is None else EXACT_CONTEXT.subtract(current_quantity, quantity)
        difference = EXACT_CONTEXT.subtract(quantity, quantity_before)
        is_unchanged = not changes.events and not difference and (is_late or not rules_difference)
        if is_unchanged and not (self._with_settled and period.settlements):
            return None
        roll_forward = _RollForwardParts()
        frozen = changes.quantity_before if is_partial else period.quantity
        if not since_closing:
            frozen = quantity_before
        elif period.settlements:
            frozen_now = _add_settled_steps(roll_forward, view, period)
            frozen = frozen_now if is_partial else period.quantity
        if is_unchanged and roll_forward.is_empty:
            return None
        roll_forward.add(changes.events)
        selected = events.select(changes.events)
        fields = event_view_fields(self._ledger, [change.event.now for change in selected], view)
        return Adjustment(
            period=period,
            quantity=quantity,
            billable=rules.billable(quantity),
            difference=difference,
            billable_difference=EXACT_CONTEXT.subtract(rules.billable(quantity), billable_before),
            rules_difference=rules_difference,
            position=self._meter.position,
            events=tuple(
                AdjustingEvent(*of_event, before=change.verdict_before, change=change.difference)
                for of_event, change in zip(fields, selected, strict=True)
            ),
            event_count=len(changes.events),
            roll_forward=roll_forward.between(frozen, quantity, difference, rules_difference),
            groups=_group_adjustments(view, rules, changes),
            is_late=is_late,
        )


def _without_long_text(change: VerdictChange) -> VerdictChange:
    """Return a change with a short key in place of a long unique value, so that many of them fit in memory.

    Each change has it: the key of a key is another one, so that texts are compared with texts, and keys with keys.
    """
    now = _shortened(change.now)
    before = now if change.before is change.now else change.before and _shortened(change.before)
    return VerdictChange(now, before)


def _shortened(verdict: UsageVerdict) -> UsageVerdict:
    record = verdict.record
    if record.unique_value is None or (key := unique_key(record.unique_value)) == record.unique_value:
        return verdict
    short = replace(record, unique_value=key)
    return UsageVerdict(short, short if verdict.is_counted else verdict.effective)


def _add_settled_steps(roll_forward: "_RollForwardParts", view: UsageView, period: ClosedPeriod) -> Decimal:
    """Add the changes from the closing to each settlement; return the quantity at the closing.

    The usage of one step at a time is held: a period may have many settlements.
    """
    ends = [settlement.position for settlement in period.settlements]
    frozen: Decimal | None = None
    for start, end in zip([period.position, *ends], ends, strict=False):
        check_interruption()
        step = _Changes(view, period, start, AsOf(position=end))
        frozen = step.quantity_before if frozen is None else frozen
        roll_forward.add(step.events)
    return ZERO if frozen is None else frozen


class _RollForwardParts:
    """The sums of the differences of events, by the field of a RollForward that has them."""

    def __init__(self) -> None:
        self._parts: dict[str, Decimal] = dict.fromkeys(
            ("late", "cancelled", "superseded", "restored", "recalculated"), ZERO
        )
        self.is_empty = True

    def add(self, changes: Sequence[_Change]) -> None:
        """Add the changes of one step."""
        for change in changes:
            self.is_empty = False
            part = _roll_forward_part(change.verdict_before, change.verdict_now)
            self._parts[part] = EXACT_CONTEXT.add(self._parts[part], change.difference)

    def between(self, frozen: Decimal, now: Decimal, difference: Decimal, rules_difference: Decimal) -> RollForward:
        """Return the roll-forward of the changes that were added."""
        settled = EXACT_CONTEXT.subtract(EXACT_CONTEXT.subtract(now, difference), frozen)
        return RollForward(
            frozen=frozen, **self._parts, now=now, settled=settled, open=difference, by_rules=rules_difference
        )


def _roll_forward_part(before: Verdict | None, now: Verdict) -> str:
    """Return the field of a RollForward that has the difference of an event, given its verdicts."""
    if before is None:
        return "late"
    if before is Verdict.COUNTED:
        return {Verdict.CANCELLED: "cancelled", Verdict.SUPERSEDED: "superseded"}.get(now, "recalculated")
    return "restored"


def _group_adjustments(view: UsageView, rules: Rules, changes: _Changes) -> tuple[GroupAdjustment, ...]:
    """Return the part of each group; nothing if the query doesn't group."""
    group_by = view.parts[-1].groups.group_by
    if not group_by:
        return ()
    totals_before, totals_now = (
        totals_by_group(changes.counted_before, view),
        totals_by_group(changes.counted_now, view),
    )
    adjustments: list[GroupAdjustment] = []
    for group in sorted(totals_before.keys() | totals_now.keys(), key=group_order):
        quantity = rules.quantity(totals_now.get(group, Totals()))
        quantity_before = rules.quantity(totals_before.get(group, Totals()))
        billable, billable_before = rules.billable(quantity), rules.billable(quantity_before)
        adjustments.append(
            GroupAdjustment(
                dimensions=dict(zip(group_by, group, strict=True)),
                quantity=quantity,
                billable=billable,
                difference=EXACT_CONTEXT.subtract(quantity, quantity_before),
                billable_difference=EXACT_CONTEXT.subtract(billable, billable_before),
            )
        )
    return tuple(adjustments)


def _quantity_under_current_rules(views: RangeViews, period: ClosedPeriod, as_of: AsOf | None) -> Decimal | None:
    """Return the quantity of a period under the current rules; None if these are the rules it was closed under.

    If the rules change inside the period, the parts before and after that are billed separately: their sum is returned.
    """
    if views.are_current_rules(period):
        return None
    quantity = ZERO
    for usage in views.under_current_rules(period):
        quantity = EXACT_CONTEXT.add(quantity, usage.rules.quantity(usage.totals(period.customer, as_of)))
    return quantity


def _changed_contributions(
    history: Iterable[VerdictChange],
    contribution_before: Callable[[UsageRecord], Decimal],
    contribution_now: Callable[[UsageRecord], Decimal],
) -> list[_Change]:
    """Return the events that were recorded since, or that have another verdict or contribution, with the difference."""
    changed: list[_Change] = []
    for change in history:
        before, now = change.before, change.now
        old = contribution_before(before.record) if before is not None and before.is_counted else ZERO
        new = contribution_now(now.record) if now.is_counted else ZERO
        difference = EXACT_CONTEXT.subtract(new, old)
        if difference or (before is not now and (before is None or verdict_for(now) != verdict_for(before))):
            changed.append(_Change(change, difference))
    return changed
