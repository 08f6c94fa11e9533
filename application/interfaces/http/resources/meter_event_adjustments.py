"""Meter event adjustments: cancellations, as in Stripe's v1 and v2 APIs, and their revocation, which Stripe lacks."""

from typing import Any, Literal

import msgspec

from .....domain.access_key import Scope
from .....domain.errors import InvalidCancellation, MeterNotFound
from .....domain.meter_event import Cancellation
from ..api_types import Name, Parameters, Reason, Rfc3339, to_rfc3339, to_unix
from ..errors import ApiError
from ..ledgers import RequestContext
from ..object_ids import encode_id
from ..operations import OperationRegistry
from ..parameters import check_text

operations = OperationRegistry("Meter event adjustments")


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """The meter event to cancel."""

    identifier: Name


class CreateAdjustment(Parameters, kw_only=True):
    """A meter event to cancel, within 24 hours of its receipt. Stripe's request has no `reason` and no `by`.

    `by` is stored as `on_behalf_of`.
    """

    event_name: Name
    type: Literal["cancel"]
    cancel: Cancel
    by: Reason | None = None
    reason: Reason | None = None


class CreateAdjustmentV2(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A meter event to cancel, within 24 hours of its receipt. Stripe's request has no `reason` and no `by`.

    `by` is stored as `on_behalf_of`.
    """

    event_name: Name
    type: Literal["cancel"]
    cancel: Cancel
    by: Reason | None = None
    reason: Reason | None = None


class MeterEventAdjustment(msgspec.Struct, kw_only=True):
    """The cancellation of a meter event."""

    object: Literal["billing.meter_event_adjustment"] = "billing.meter_event_adjustment"
    cancel: Cancel
    event_name: str
    livemode: bool
    status: Literal["complete"] = "complete"
    type: Literal["cancel"] = "cancel"


class MeterEventAdjustmentV2(msgspec.Struct, kw_only=True):
    """The cancellation of a meter event."""

    id: str
    object: Literal["v2.billing.meter_event_adjustment"] = "v2.billing.meter_event_adjustment"
    cancel: Cancel
    created: Rfc3339
    event_name: str
    livemode: bool
    status: Literal["complete"] = "complete"
    type: Literal["cancel"] = "cancel"


class RevokeCancellation(Parameters, kw_only=True):
    """A cancelled meter event to count again, why, and by whom. `by` is stored as `on_behalf_of`."""

    event_name: Name
    cancel: Cancel
    reason: Reason
    by: Reason | None = None


class MeterEventRevocation(msgspec.Struct, kw_only=True):
    """The revocation of the cancellation of a meter event."""

    object: Literal["billing.meter_event_revocation"] = "billing.meter_event_revocation"
    by: str | None
    on_behalf_of: str | None
    cancel: Cancel
    cancelled_at: int
    event_name: str
    livemode: bool
    reason: str
    revoked_at: int


@operations.post("/v1/billing/meter_event_adjustments", Scope.CANCEL)
def create_meter_event_adjustment(context: RequestContext[CreateAdjustment]) -> MeterEventAdjustment:
    """Cancel a meter event. Cancelling it again changes nothing."""
    try:
        cancellation = _cancel(context, context.params)
    except (InvalidCancellation, MeterNotFound) as error:
        raise ApiError(400, error.message, code=error.code, param=_PARAMETER_NAMES[error.field or ""]) from None
    return MeterEventAdjustment(
        cancel=Cancel(cancellation.identifier), event_name=cancellation.event_name, livemode=context.ledger.livemode
    )


@operations.post("/v2/billing/meter_event_adjustments", Scope.CANCEL)
def create_meter_event_adjustment_v2(context: RequestContext[CreateAdjustmentV2]) -> MeterEventAdjustmentV2:
    """Cancel a meter event. Cancelling it again changes nothing."""
    try:
        cancellation = _cancel(context, context.params)
    except (InvalidCancellation, MeterNotFound) as error:
        raise ApiError(
            400, error.message, code=InvalidCancellation.code, param=_PARAMETER_NAMES[error.field or ""]
        ) from None
    return MeterEventAdjustmentV2(
        id=encode_id("mtradj", cancellation.identifier),
        cancel=Cancel(cancellation.identifier),
        created=to_rfc3339(cancellation.cancelled_at),
        event_name=cancellation.event_name,
        livemode=context.ledger.livemode,
    )


@operations.post("/v1/billing/meter_event_adjustments/revoke", Scope.CANCEL)
def revoke_meter_event_adjustment(context: RequestContext[RevokeCancellation]) -> MeterEventRevocation:
    """Revoke the cancellation of a meter event, within 24 hours: it counts again.

    Revoking it again changes nothing. The event can be cancelled again.
    """
    params = context.params
    identifier = check_text(params.cancel.identifier, "cancel[identifier]")
    try:
        revocation = context.ledger.metering.revoke_cancel(
            check_text(params.event_name, "event_name"),
            identifier,
            reason=check_text(params.reason, "reason"),
            by=params.by,
        )
    except (InvalidCancellation, MeterNotFound) as error:
        raise ApiError(400, error.message, code=error.code, param=_PARAMETER_NAMES[error.field or ""]) from None
    return MeterEventRevocation(
        by=revocation.by,
        on_behalf_of=revocation.on_behalf_of,
        cancel=Cancel(revocation.identifier),
        cancelled_at=to_unix(revocation.cancelled_at),
        event_name=revocation.event_name,
        livemode=context.ledger.livemode,
        reason=revocation.reason,
        revoked_at=to_unix(revocation.revoked_at),
    )


def _cancel(context: RequestContext[Any], params: CreateAdjustment | CreateAdjustmentV2) -> Cancellation:
    event_name = check_text(params.event_name, "event_name")
    identifier = check_text(params.cancel.identifier, "cancel[identifier]")
    return context.ledger.metering.cancel(event_name, identifier, reason=params.reason, by=params.by)


_PARAMETER_NAMES = {
    "event_name": "event_name",
    "identifier": "cancel[identifier]",
    "reason": "reason",
    "by": "by",
}
