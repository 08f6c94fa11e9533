"""Rejected meter events of a stream: how they are stored, with the reason."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from ....domain import errors
from ....domain.errors import TallybookError
from ....domain.meter_event_input import MeterEventInput
from ....domain.timestamps import to_microseconds
from ...storage.key_value import KeyValueEntry
from ...uuid7 import uuid7

REJECTED_EVENT_KIND, UNREPORTED_KIND = "refused_event", "unreported"
ERROR_CODES: Mapping[type[TallybookError], str] = {
    errors.MeterNotFound: "no_meter",
    errors.MeterInactive: "archived_meter",
    errors.MissingCustomer: "meter_event_no_customer_defined",
    errors.MissingValue: "meter_event_invalid_value",
    errors.MissingDimension: "missing_dimension_payload_keys",
    errors.InvalidValue: "meter_event_invalid_value",
    errors.TooManyDigits: "meter_event_value_too_many_digits",
    errors.TimestampTooFarInPast: "timestamp_too_far_in_past",
    errors.TimestampInFuture: "timestamp_in_future",
    errors.DuplicateMeterEvent: "duplicate_meter_event",
}
"""The codes of Stripe's error reports. Other errors keep their own code."""


class RejectedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A meter event that was rejected after the response, stored completely so that it can be corrected and resent."""

    code: str
    message: str
    event_name: str
    payload: dict[str, str]
    identifier: str | None
    timestamp: datetime | None
    request_id: str
    idempotency_key: str | None


def entries_for(
    event_input: MeterEventInput, error: TallybookError, at: datetime, request_id: str, idempotency_key: str | None
) -> list[KeyValueEntry]:
    """Return the entries of a rejected event: the event, and a marker that it is not reported yet."""
    rejected = RejectedEvent(
        code=ERROR_CODES.get(type(error), error.code),
        message=error.message,
        event_name=event_input.event_name,
        payload=event_input.payload,
        identifier=event_input.identifier,
        timestamp=event_input.timestamp,
        request_id=request_id,
        idempotency_key=idempotency_key,
    )
    entry_key, at_microseconds = f"mtrerr_{uuid7()}", to_microseconds(at)
    return [
        KeyValueEntry(REJECTED_EVENT_KIND, entry_key, at_microseconds, msgspec.json.encode(rejected)),
        KeyValueEntry(UNREPORTED_KIND, entry_key, at_microseconds, b""),
    ]
