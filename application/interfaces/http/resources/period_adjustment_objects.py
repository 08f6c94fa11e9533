"""The objects of period adjustments: signed differences, how they came about, and the events that caused them."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from ....adjustment_results import AdjustingEvent, Adjustment, RollForward
from ....results import Verdict
from ..api_types import ListObject, Number, encode, encode_decimal, to_unix
from ..dimension_parameters import Dimensions
from ..ledgers import ServedLedger
from ..object_ids import METER_PREFIX, encode_id
from ..pagination import list_response
from .closed_period_ids import PERIOD_ADJUSTMENT_PREFIX, IdentifiedPeriod, closed_period_id
from .recorded_meter_events import RecordedMeterEvent, payload_size, recorded_fields

URL = "/v1/billing/period_adjustments"
MAX_INLINE_EVENTS = 10


class AdjustingMeterEvent(RecordedMeterEvent, kw_only=True):
    """A meter event whose status has changed since its period was closed, or since its last settlement.

    `status_at_closing` is its status then, null if the event was not recorded yet; `change` is its effect on the total
    since.
    """

    change: Number
    status_at_closing: Verdict | None


class PeriodAdjustmentGroup(msgspec.Struct, kw_only=True):
    """The part of an adjustment with these values of `dimensions`."""

    aggregated_value: Number
    billable_difference: Number
    billable_value: Number
    difference: Number
    dimensions: Dimensions


class PeriodAdjustmentRollForward(msgspec.Struct, kw_only=True):
    """How the quantity of a closed period became what it is `now`, under its rules at closing; all signed.

    `frozen` + `late` + `cancelled` + `superseded` + `restored` + `recalculated` = `now`, and
    `frozen` + `settled` + `open` = `now`. `late` usage was recorded after the closing. `cancelled` and `superseded`
    usage counted in it; `restored` usage did not. `recalculated` usage counts in both, with another contribution.
    `open` is owed; `by_rules` is what the current rules would add, and is not owed.
    """

    by_rules: Number
    cancelled: Number
    frozen: Number
    late: Number
    now: Number
    open: Number
    recalculated: Number
    restored: Number
    settled: Number
    superseded: Number


class PeriodAdjustment(msgspec.Struct, kw_only=True):
    """The amount that is owed on a closed period, signed.

    `aggregated_value` and `billable_value` are the current totals of the period under its rules at closing; the
    differences are relative to what was invoiced last: the last settlement, or the frozen totals. `rules_difference`
    is what the current rules would add, and is not owed. The `change` of all `events`, of which the first 10 are
    included, adds up to `difference`. `roll_forward` leads from the frozen total to the current one. `groups` are the
    parts by dimensions, if the request groups. `closed_period` is null for a customer without a closing, because all
    of its usage was recorded after the period was closed for others.
    """

    id: str
    object: Literal["billing.period_adjustment"] = "billing.period_adjustment"
    aggregated_value: Number
    billable_difference: Number
    billable_value: Number
    closed_period: str | None
    customer: str
    difference: Number
    end_time: int
    events: ListObject[AdjustingMeterEvent]
    groups: list[PeriodAdjustmentGroup]
    livemode: bool
    meter: str
    position: int
    roll_forward: PeriodAdjustmentRollForward
    rules_difference: Number
    start_time: int


def adjustment_object(identified: IdentifiedPeriod, adjustment: Adjustment, ledger: ServedLedger) -> PeriodAdjustment:
    """Return the object of an adjustment, with its first events."""
    period, object_id = adjustment.period, closed_period_id(identified, PERIOD_ADJUSTMENT_PREFIX)
    inline_events = adjusting_event_objects(adjustment.events[:MAX_INLINE_EVENTS], ledger)
    return PeriodAdjustment(
        id=object_id,
        aggregated_value=encode_decimal(adjustment.quantity),
        billable_difference=encode_decimal(adjustment.billable_difference),
        billable_value=encode_decimal(adjustment.billable),
        closed_period=None if adjustment.is_late else closed_period_id(identified),
        customer=period.customer,
        difference=encode_decimal(adjustment.difference),
        end_time=to_unix(period.end),
        events=list_response(
            inline_events, f"{URL}/{object_id}/events", has_more=adjustment.event_count > MAX_INLINE_EVENTS
        ),
        groups=_groups(adjustment),
        livemode=ledger.livemode,
        meter=encode_id(METER_PREFIX, period.event_name),
        position=adjustment.position,
        roll_forward=_to_roll_forward(adjustment.roll_forward),
        rules_difference=encode_decimal(adjustment.rules_difference),
        start_time=to_unix(period.start),
    )


def adjusting_event_objects(events: Sequence[AdjustingEvent], ledger: ServedLedger) -> list[AdjustingMeterEvent]:
    """Return the objects of the events that caused an adjustment."""
    return [
        AdjustingMeterEvent(
            **recorded_fields(event, ledger), change=encode_decimal(event.change), status_at_closing=event.before
        )
        for event in events
    ]


def inline_size(adjustment: Adjustment) -> int:
    """Return the size of those parts of the object of an adjustment whose size is not limited."""
    return sum(map(payload_size, adjustment.events[:MAX_INLINE_EVENTS])) + len(encode(_groups(adjustment)))


def _to_roll_forward(roll_forward: RollForward) -> PeriodAdjustmentRollForward:
    parts = {field: getattr(roll_forward, field) for field in PeriodAdjustmentRollForward.__struct_fields__}
    return PeriodAdjustmentRollForward(**{field: encode_decimal(value) for field, value in parts.items()})


def _groups(adjustment: Adjustment) -> list[PeriodAdjustmentGroup]:
    return [
        PeriodAdjustmentGroup(
            aggregated_value=encode_decimal(group.quantity),
            billable_difference=encode_decimal(group.billable_difference),
            billable_value=encode_decimal(group.billable),
            difference=encode_decimal(group.difference),
            dimensions=group.dimensions,
        )
        for group in adjustment.groups
    ]
