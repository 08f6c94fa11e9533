"""Meter events of a stream that can't be counted: kept with the reason, never lost."""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from uuid_utils import uuid7

from ...domain import errors
from ...domain.errors import TallybookError
from ...domain.instants import microseconds
from ...domain.report import Report
from ..stores.kept import KeptRow

REFUSED_EVENT, UNREPORTED = "refused_event", "unreported"
CODES: Mapping[type[TallybookError], str] = {
    errors.NoMeter: "no_meter",
    errors.ArchivedMeter: "archived_meter",
    errors.PayloadWithoutCustomer: "meter_event_no_customer_defined",
    errors.PayloadWithoutValue: "meter_event_invalid_value",
    errors.PayloadWithoutDimension: "missing_dimension_payload_keys",
    errors.InvalidValue: "meter_event_invalid_value",
    errors.TooManyDigits: "meter_event_value_too_many_digits",
    errors.TimestampTooFarInPast: "timestamp_too_far_in_past",
    errors.TimestampInFuture: "timestamp_in_future",
    errors.DuplicateMeterEvent: "duplicate_meter_event",
}
"""The codes that Stripe's error reports have, where they have one."""


class RefusedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A meter event that was refused after its request was answered, all of it, so that it can be mended and resent."""

    code: str
    message: str
    event_name: str
    payload: dict[str, str]
    identifier: str | None
    timestamp: datetime | None
    request_id: str
    idempotency_key: str | None


def rows_of(report: Report, error: TallybookError, at: datetime, request_id: str, key: str | None) -> list[KeptRow]:
    """What to keep of a refused event: itself, and that nobody has been told of it yet."""
    refused = RefusedEvent(
        code=CODES.get(type(error), error.code),
        message=error.message,
        event_name=report.event_name,
        payload=report.payload,
        identifier=report.identifier,
        timestamp=report.timestamp,
        request_id=request_id,
        idempotency_key=key,
    )
    place, moment = f"mtrerr_{uuid7()}", microseconds(at)
    return [
        KeptRow(REFUSED_EVENT, place, moment, msgspec.json.encode(refused)),
        KeptRow(UNREPORTED, place, moment, b""),
    ]
