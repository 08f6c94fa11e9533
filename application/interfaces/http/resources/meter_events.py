"""Recording single meter events, as in Stripe's v1 and v2 APIs."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .....domain import errors
from .....domain.errors import TallybookError
from .....domain.meter_event_input import MeterEventInput, PayloadKey, PayloadValue
from ....results import Outcome, Receipt
from ..api_types import Name, Parameters, Rfc3339, UnixTime, from_unix, to_rfc3339, to_unix
from ..errors import ApiError, to_api_error
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pending_requests import RecordRequest, RecordResponse

operations = OperationRegistry("Meter events")

Payload = Annotated[dict[PayloadKey, PayloadValue], Meta(max_length=50)]


class MeterEvent(msgspec.Struct, kw_only=True):
    """A recorded meter event."""

    object: Literal["billing.meter_event"] = "billing.meter_event"
    created: int
    event_name: str
    identifier: str
    livemode: bool
    payload: dict[str, str]
    timestamp: int


class MeterEventV2(msgspec.Struct, kw_only=True):
    """A recorded meter event."""

    object: Literal["v2.billing.meter_event"] = "v2.billing.meter_event"
    created: Rfc3339
    event_name: str
    identifier: str
    livemode: bool
    payload: dict[str, str]
    timestamp: Rfc3339


class CreateMeterEvent(Parameters, kw_only=True):
    """A meter event to record. The default for `timestamp` is now; the default for `identifier` is a new UUID."""

    event_name: Name
    payload: Payload
    identifier: Name | None = None
    timestamp: UnixTime | None = None


class CreateMeterEventV2(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A meter event to record. The default for `timestamp` is now; the default for `identifier` is a new UUID."""

    event_name: Name
    payload: Payload
    identifier: Name | None = None
    timestamp: Annotated[datetime, Meta(tz=True)] | None = None


@operations.record("/v1/billing/meter_events", MeterEvent)
def create_meter_event(context: RequestContext[CreateMeterEvent]) -> RecordRequest:
    """Record a meter event. It is durable and included in all totals when this returns."""
    params = context.params
    event_input = _to_input(params, None if params.timestamp is None else from_unix(params.timestamp))

    def to_response(identifier: str, at: datetime) -> MeterEvent:
        return MeterEvent(
            created=to_unix(at),
            event_name=event_input.event_name,
            identifier=identifier,
            livemode=context.ledger.livemode,
            payload=event_input.payload,
            timestamp=to_unix(event_input.timestamp or at),
        )

    return _record_request(event_input, to_response, _error_v1)


@operations.record("/v2/billing/meter_events", MeterEventV2)
def create_meter_event_v2(context: RequestContext[CreateMeterEventV2]) -> RecordRequest:
    """Record a meter event. It is durable and included in all totals when this returns."""
    event_input = _to_input(context.params, context.params.timestamp)

    def to_response(identifier: str, at: datetime) -> MeterEventV2:
        return MeterEventV2(
            created=to_rfc3339(at),
            event_name=event_input.event_name,
            identifier=identifier,
            livemode=context.ledger.livemode,
            payload=event_input.payload,
            timestamp=to_rfc3339(event_input.timestamp or at),
        )

    return _record_request(event_input, to_response, _error_v2)


def _record_request(
    event_input: MeterEventInput,
    to_response: Callable[[str, datetime], object],
    to_error: Callable[[Receipt, MeterEventInput], ApiError],
) -> RecordRequest:
    """Return the request to record one event, with the response if it is accepted and the error if not."""

    def build_response(receipts: Sequence[Receipt], at: datetime) -> RecordResponse:
        (receipt,) = receipts
        if receipt.outcome is not Outcome.ACCEPTED or receipt.identifier is None:
            raise to_error(receipt, event_input)
        return RecordResponse(to_response(receipt.identifier, at))

    return RecordRequest((event_input,), build_response)


def _to_input(params: CreateMeterEvent | CreateMeterEventV2, timestamp: datetime | None) -> MeterEventInput:
    return MeterEventInput(params.event_name, params.payload, params.identifier, timestamp)


def _already_exists(receipt: Receipt, code: str) -> ApiError:
    """Return the error of a repeated identifier, even with the same content: only an idempotency key marks a retry."""
    message = f"An event already exists with identifier {receipt.identifier}."
    return ApiError(400, message, code=code, param="identifier" if code else "")


def _error_v1(receipt: Receipt, event_input: MeterEventInput) -> ApiError:
    error = receipt.error
    if error is None or isinstance(error, errors.DuplicateMeterEvent):
        return _already_exists(receipt, "")
    if isinstance(error, errors.MeterNotFound | errors.MeterInactive):
        message = f'No active meter found for event name "{event_input.event_name}".'
        return ApiError(400, message, code=error.code, param="event_name")
    return to_api_error(error, payload_params(error))


def _error_v2(receipt: Receipt, _: MeterEventInput) -> ApiError:
    error = receipt.error
    if error is None or isinstance(error, errors.DuplicateMeterEvent):
        return _already_exists(receipt, "duplicate_meter_event")
    api_error = to_api_error(error, payload_params(error))
    if isinstance(error, errors.TooManyDigits):
        api_error.error.code = errors.InvalidValue.code  # v2 has no separate code for it
    return api_error


def payload_params(error: TallybookError) -> dict[str, str]:
    """Return the parameter of an error's field: `payload[value]` for the field `value`."""
    field = error.field or ""
    if isinstance(error, _PAYLOAD_ERRORS):
        return {field: f"payload[{field.removeprefix('payload.')}]"}
    return {}


_PAYLOAD_ERRORS = (
    errors.MissingCustomer, errors.MissingValue, errors.MissingDimension, errors.InvalidValue,
    errors.TooManyDigits,
)  # fmt: skip
