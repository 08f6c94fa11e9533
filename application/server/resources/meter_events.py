"""Meter events, reported one by one, as Stripe's v1 and v2 take them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ....domain import errors
from ....domain.errors import TallybookError
from ....domain.report import PayloadKey, PayloadValue, Report
from ...results import Outcome, Receipt
from ..committing import Recorded, Recording
from ..desk import Call
from ..refusals import Refusal, refusal_of
from ..routes import Routes
from ..times import Rfc3339, UnixTime, at_unix, rfc3339, unix
from ..wire import Name, Parameters

routes = Routes("Meter events")

Payload = Annotated[dict[PayloadKey, PayloadValue], Meta(max_length=50)]


class MeterEvent(msgspec.Struct, kw_only=True):
    """A use that was reported."""

    object: Literal["billing.meter_event"] = "billing.meter_event"
    created: int
    event_name: str
    identifier: str
    livemode: bool
    payload: dict[str, str]
    timestamp: int


class MeterEventV2(msgspec.Struct, kw_only=True):
    """A use that was reported."""

    object: Literal["v2.billing.meter_event"] = "v2.billing.meter_event"
    created: Rfc3339
    event_name: str
    identifier: str
    livemode: bool
    payload: dict[str, str]
    timestamp: Rfc3339


class CreateMeterEvent(Parameters, kw_only=True):
    """A use to report; `timestamp` is now where none is given, and an identifier is made where none is."""

    event_name: Name
    payload: Payload
    identifier: Name | None = None
    timestamp: UnixTime | None = None


class CreateMeterEventV2(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A use to report; `timestamp` is now where none is given, and an identifier is made where none is."""

    event_name: Name
    payload: Payload
    identifier: Name | None = None
    timestamp: Annotated[datetime, Meta(tz=True)] | None = None


@routes.recording("/v1/billing/meter_events", MeterEvent)
def create_meter_event(call: Call[CreateMeterEvent]) -> Recording:
    """Report a use. It is durable, and in every figure, when this is answered."""
    asked = call.asked
    report = _report(asked, None if asked.timestamp is None else at_unix(asked.timestamp))

    def told(identifier: str, at: datetime) -> MeterEvent:
        return MeterEvent(
            created=unix(at),
            event_name=report.event_name,
            identifier=identifier,
            livemode=call.desk.livemode,
            payload=report.payload,
            timestamp=unix(report.timestamp or at),
        )

    return _recording(report, told, _refused_v1)


@routes.recording("/v2/billing/meter_events", MeterEventV2)
def create_meter_event_v2(call: Call[CreateMeterEventV2]) -> Recording:
    """Report a use. It is durable, and in every figure, when this is answered."""
    report = _report(call.asked, call.asked.timestamp)

    def told(identifier: str, at: datetime) -> MeterEventV2:
        return MeterEventV2(
            created=rfc3339(at),
            event_name=report.event_name,
            identifier=identifier,
            livemode=call.desk.livemode,
            payload=report.payload,
            timestamp=rfc3339(report.timestamp or at),
        )

    return _recording(report, told, _refused_v2)


def _recording(
    report: Report, told: Callable[[str, datetime], object], refused: Callable[[Receipt, Report], Refusal]
) -> Recording:
    """A report to record; `told` is what is answered where it is accepted, and `refused` where it isn't."""

    def answer(receipts: Sequence[Receipt], at: datetime) -> Recorded:
        (receipt,) = receipts
        if receipt.outcome is not Outcome.ACCEPTED or receipt.identifier is None:
            raise refused(receipt, report)
        return Recorded(told(receipt.identifier, at))

    return Recording((report,), answer)


def _report(asked: CreateMeterEvent | CreateMeterEventV2, timestamp: datetime | None) -> Report:
    return Report(asked.event_name, asked.payload, asked.identifier, timestamp)


def _already_exists(receipt: Receipt, code: str) -> Refusal:
    """Also where the same is reported again: without the idempotency key of the first request nothing tells a retry."""
    message = f"An event already exists with identifier {receipt.identifier}."
    return Refusal(400, message, code=code, param="identifier" if code else "")


def _refused_v1(receipt: Receipt, report: Report) -> Refusal:
    error = receipt.error
    if error is None or isinstance(error, errors.DuplicateMeterEvent):
        return _already_exists(receipt, "")
    if isinstance(error, errors.NoMeter | errors.ArchivedMeter):
        message = f'No active meter found for event name "{report.event_name}".'
        return Refusal(400, message, code=error.code, param="event_name")
    return refusal_of(error, payload_params(error))


def _refused_v2(receipt: Receipt, _: Report) -> Refusal:
    error = receipt.error
    if error is None or isinstance(error, errors.DuplicateMeterEvent):
        return _already_exists(receipt, "duplicate_meter_event")
    refusal = refusal_of(error, payload_params(error))
    if isinstance(error, errors.TooManyDigits):
        refusal.error.code = errors.InvalidValue.code  # v2 has no code of its own for it
    return refusal


def payload_params(error: TallybookError) -> dict[str, str]:
    """The parameter that a field of a report came from: `payload[value]`, where the ledger says `value`."""
    field = error.field or ""
    if isinstance(error, _ABOUT_PAYLOAD):
        return {field: f"payload[{field.removeprefix('payload.')}]"}
    return {}


_ABOUT_PAYLOAD = (
    errors.PayloadWithoutCustomer, errors.PayloadWithoutValue, errors.PayloadWithoutDimension, errors.InvalidValue,
    errors.TooManyDigits,
)  # fmt: skip
