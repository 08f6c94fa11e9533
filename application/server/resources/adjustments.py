"""Meter event adjustments: cancels, as Stripe's v1 and v2 take them."""

from typing import Any, Literal

import msgspec

from ....domain.access_key import Scope
from ....domain.errors import InvalidCancel, NoMeter
from ....domain.meter_event import Cancellation
from ..desk import Call
from ..ids import id_of
from ..parameters import check_text
from ..refusals import Refusal
from ..routes import Routes
from ..times import Rfc3339, rfc3339
from ..wire import Name, Parameters

routes = Routes("Meter event adjustments")


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """Which meter event to cancel."""

    identifier: Name


class CreateAdjustment(Parameters, kw_only=True):
    """A meter event to cancel, within 24 hours of its receipt."""

    event_name: Name
    type: Literal["cancel"]
    cancel: Cancel


class CreateAdjustmentV2(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A meter event to cancel, within 24 hours of its receipt."""

    event_name: Name
    type: Literal["cancel"]
    cancel: Cancel


class MeterEventAdjustment(msgspec.Struct, kw_only=True):
    """A meter event that counts no more."""

    object: Literal["billing.meter_event_adjustment"] = "billing.meter_event_adjustment"
    cancel: Cancel
    event_name: str
    livemode: bool
    status: Literal["complete"] = "complete"
    type: Literal["cancel"] = "cancel"


class MeterEventAdjustmentV2(msgspec.Struct, kw_only=True):
    """A meter event that counts no more."""

    id: str
    object: Literal["v2.billing.meter_event_adjustment"] = "v2.billing.meter_event_adjustment"
    cancel: Cancel
    created: Rfc3339
    event_name: str
    livemode: bool
    status: Literal["complete"] = "complete"
    type: Literal["cancel"] = "cancel"


@routes.post("/v1/billing/meter_event_adjustments", Scope.RECORD)
def create_meter_event_adjustment(call: Call[CreateAdjustment]) -> MeterEventAdjustment:
    """Cancel a meter event. Cancelling again changes nothing."""
    try:
        cancelled = _cancelled(call, call.asked)
    except (InvalidCancel, NoMeter) as error:
        raise Refusal(400, error.message, code=error.code, param=_PARAMS[error.field or ""]) from None
    return MeterEventAdjustment(
        cancel=Cancel(cancelled.identifier), event_name=cancelled.event_name, livemode=call.desk.livemode
    )


@routes.post("/v2/billing/meter_event_adjustments", Scope.RECORD)
def create_meter_event_adjustment_v2(call: Call[CreateAdjustmentV2]) -> MeterEventAdjustmentV2:
    """Cancel a meter event. Cancelling again changes nothing."""
    try:
        cancelled = _cancelled(call, call.asked)
    except (InvalidCancel, NoMeter) as error:
        raise Refusal(400, error.message, code=InvalidCancel.code, param=_PARAMS[error.field or ""]) from None
    return MeterEventAdjustmentV2(
        id=id_of("mtradj", cancelled.identifier),
        cancel=Cancel(cancelled.identifier),
        created=rfc3339(cancelled.cancelled_at),
        event_name=cancelled.event_name,
        livemode=call.desk.livemode,
    )


def _cancelled(call: Call[Any], asked: CreateAdjustment | CreateAdjustmentV2) -> Cancellation:
    event_name = check_text(asked.event_name, "event_name")
    identifier = check_text(asked.cancel.identifier, "cancel[identifier]")
    return call.desk.metering.cancel(event_name, identifier, by=call.key.hint)


_PARAMS = {"event_name": "event_name", "identifier": "cancel[identifier]"}
