"""The adjustments of closed periods, and the gaps between these. They are immutable."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ..domain.closed_period import ClosedPeriod
from ..domain.decimals import ZERO
from .results import MeterEventView, Verdict


@dataclass(frozen=True, slots=True)
class AdjustingEvent(MeterEventView):
    """A meter event that changed the total of a closed period: recorded, cancelled or superseded since its closing.

    `before` is its verdict at the closing, None if it was not recorded then. `change` is what it adds since.
    """

    before: Verdict | None = None
    change: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class GroupAdjustment:
    """The part of an adjustment with some dimension values; None is an absent optional dimension.

    `quantity` and `billable` are those of the group now; `difference` and `billable_difference` are these less what
    they were when the period was closed, or when its last adjustment was settled.
    """

    dimensions: dict[str, str | None] = field(hash=False)
    quantity: Decimal
    billable: Decimal
    difference: Decimal
    billable_difference: Decimal


@dataclass(frozen=True, slots=True)
class RollForward:
    """How the quantity of a period became what it is now, under the rules that it was closed under; all signed.

    `frozen` + `late` + `cancelled` + `superseded` + `restored` + `recalculated` = `now`, and
    `frozen` + `settled` + `open` = `now`.

    Each part is the sum of the changes from the closing to the first settlement, from there to the next one, and from
    the last one until now. `late` is usage that was recorded in such a step. `cancelled` and `superseded` usage counted
    at its start. `restored` usage did not, because it was cancelled or superseded then. `recalculated` usage counts at
    both ends, with another contribution: under the formula max, the second largest value counts if the largest is
    cancelled. `settled` was settled by credit notes or invoices, and `open` is owed. `by_rules` is what the current
    rules would add; it is not owed.
    """

    frozen: Decimal
    late: Decimal
    cancelled: Decimal
    superseded: Decimal
    restored: Decimal
    recalculated: Decimal
    now: Decimal
    settled: Decimal
    open: Decimal
    by_rules: Decimal


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What is owed on a closed period, signed: its changes since it was closed, or since its last settlement.

    `quantity` and `billable` are the present totals of the period under the rules it was closed under; `difference` and
    `billable_difference` are these minus what was invoiced last. The changes of `events` add up to `difference`. If the
    query limits them, `events` are the first of the `event_count` events. `rules_difference` is what the current rules
    would add to `quantity`; it is not owed. `groups` are the parts by dimension values, if the query asked for them.
    `roll_forward` leads from the closing to `quantity`.

    `is_late` is set if the customer has no closing in the period, because all of its usage there was recorded after the
    period was closed for others. `period` then stands for a closing without usage.
    """

    period: ClosedPeriod
    quantity: Decimal
    billable: Decimal
    difference: Decimal
    billable_difference: Decimal
    rules_difference: Decimal
    position: int
    events: tuple[AdjustingEvent, ...]
    event_count: int
    roll_forward: RollForward
    groups: tuple[GroupAdjustment, ...] = ()
    is_late: bool = False

    @property
    def is_open(self) -> bool:
        """Whether events have changed the period since it was invoiced, so that the adjustment can be settled."""
        return bool(self.event_count or self.difference or self.billable_difference)


@dataclass(frozen=True, slots=True)
class PeriodGap:
    """A range between closed periods of a customer that belongs to none of them, and its usage now.

    `value` is the quantity under the current rules and `count` the number of counted events, which are in no invoice.
    """

    event_name: str
    customer: str
    start: datetime
    end: datetime
    value: Decimal
    count: int
