"""Recording meter events that are sent as CloudEvents, in structured, batch or binary mode."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal, cast

import msgspec

from .....domain.errors import MeterNotFound, TallybookError
from .....domain.meter_event_input import MeterEventInput
from .....domain.rules_schedule import RulesSchedule
from .....domain.timestamps import to_microseconds
from ....results import Outcome, Receipt
from ....usage_import.cloud_events import add_customer, identifier_of, payload_of
from ....usage_import.values import plain_number
from ..cloud_event_parsing import (
    BATCH,
    STRUCTURED,
    CloudEvent,
    CloudEvents,
    CloudEventsError,
    batch_error,
    parse_cloud_events,
    rejection,
)
from ..errors import ApiError, to_api_error
from ..ledgers import RequestContext, ServedLedger
from ..operations import BodyFormat, OperationRegistry
from ..pending_requests import RecordRequest, RecordResponse
from ..responses import JSON_MEDIA_TYPE
from .meter_events import payload_params

operations = OperationRegistry("CloudEvents")

_PARAMS = {"event_name": "type", "identifier": "id", "timestamp": "time"}
"""The attributes of an event by the fields of a meter event, if their names differ."""
_BODIES: Mapping[str, Any] = {STRUCTURED: CloudEvent, BATCH: list[CloudEvent], JSON_MEDIA_TYPE: dict[str, Any]}


class CloudEventsReceipt(msgspec.Struct, kw_only=True):
    """The number of events that were recorded, and of those that were recorded before."""

    object: Literal["cloud_events.receipt"] = "cloud_events.receipt"
    accepted: int
    duplicate: int
    livemode: bool


@operations.record(
    "/v1/cloudevents", CloudEventsReceipt, body_format=BodyFormat(_BODIES, parse_cloud_events, CloudEventsError)
)
def record_cloud_events(context: RequestContext[CloudEvents]) -> RecordRequest:
    """Record CloudEvents: one in structured or binary mode, or a batch of up to 1,000.

    In binary mode the body is the data, and the attributes are headers such as ce-id. An event that is recorded already
    is skipped. If any event is rejected, the status is 400, and all others are recorded.
    """
    batch = context.params
    find_schedule, now = _schedules(context.ledger), context.ledger.now()
    event_inputs = [_to_input(parsed.event, find_schedule(parsed.event.type), now) for parsed in batch.events]

    def build_response(receipts: Sequence[Receipt], _: datetime) -> RecordResponse:
        rejected = list(batch.rejected)
        for parsed, receipt in zip(batch.events, receipts, strict=True):
            if receipt.error is not None:
                api_error = _event_error(receipt.error)
                if not batch.is_batch:
                    raise api_error
                rejected.append(rejection(parsed.index, parsed.event, api_error))
        outcomes = [receipt.outcome for receipt in receipts]
        accepted, duplicate = outcomes.count(Outcome.ACCEPTED), outcomes.count(Outcome.DUPLICATE)
        if rejected:
            raise batch_error(sorted(rejected, key=lambda event: event.index), accepted + duplicate)
        return RecordResponse(
            CloudEventsReceipt(accepted=accepted, duplicate=duplicate, livemode=context.ledger.livemode)
        )

    return RecordRequest(event_inputs, build_response)


def _to_input(event: CloudEvent, schedule: RulesSchedule | None, now: datetime) -> MeterEventInput:
    """Return a meter event, whose customer is stored under the key that the meter has at the time of the event."""
    payload = {key: cast(str, plain_number(value)) for key, value in payload_of(event.data or {}).items()}
    if schedule is not None:
        rules = schedule.at(to_microseconds(event.time or now)).rules
        add_customer(payload, rules.customer_key, event.subject)
    return MeterEventInput(event.type, payload, identifier_of(event.source, event.id), event.time)


def _schedules(ledger: ServedLedger) -> Callable[[str], RulesSchedule | None]:
    """Return a function that returns the rules over time of a meter, None if there is no such meter."""

    @cache
    def find(event_name: str) -> RulesSchedule | None:
        try:
            return ledger.metering.imports.ledger.meter(event_name, suggest=False).schedule
        except MeterNotFound:  # the event is rejected for it
            return None

    return find


def _event_error(error: TallybookError) -> ApiError:
    """Return the error of an event, with its attribute."""
    params = {field: param.replace("payload[", "data[") for field, param in payload_params(error).items()}
    api_error = to_api_error(error, {**_PARAMS, **params})
    if not api_error.is_server_error:
        api_error.status = 400  # a conflict stays one: the sender must not retry
    return api_error
