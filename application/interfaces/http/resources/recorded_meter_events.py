"""Recorded meter events, with the status of each."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from .....domain.errors import InvalidIdentifier, InvalidParameter, MeterEventNotFound
from ....queries.dimension_query import Where
from ....results import MeterEventView, Verdict
from ..api_types import (
    AsOfParameters,
    Customer,
    Id,
    ListObject,
    Name,
    Number,
    UnixTime,
    encode,
    from_unix,
    optional_number,
    parse_as_of,
    to_unix,
)
from ..dimension_parameters import DimensionFilters, Dimensions, to_where
from ..errors import ApiError, missing_object
from ..ledgers import RequestContext, ServedLedger
from ..object_ids import METER_EVENT_PREFIX, decode_id, encode_id
from ..operations import OperationRegistry
from ..pagination import cursor_not_found, list_response, page_within_size, read_in_parts

URL = "/v1/billing/meter_events"
operations = OperationRegistry("Recorded meter events")


class EventCancellation(msgspec.Struct, kw_only=True):
    """When and why a meter event was cancelled, and by whom."""

    cancelled_at: int
    reason: str | None
    by: str | None


class RevokedCancellation(msgspec.Struct, kw_only=True):
    """A cancellation that was revoked: when and why both happened, and by whom."""

    cancelled_at: int
    reason: str | None
    by: str | None
    revoked_at: int
    revocation_reason: str | None
    revoked_by: str | None


class RecordedMeterEvent(msgspec.Struct, kw_only=True):
    """A meter event at a `position` of the ledger, with its status.

    A superseded event is replaced by a later one in its hour or day: `superseded_by` is the identifier of that event.
    A filtered event doesn't match the filter of the meter. `dimensions` has null for an absent optional dimension.
    `revision` is that of the rules that apply to it. `unique_value` is the text that the formula unique_count counts.
    `revoked_cancellations` are earlier cancellations that were revoked, oldest first.
    """

    id: str
    object: Literal["billing.meter_event"] = "billing.meter_event"
    cancellation: EventCancellation | None
    created: int
    customer: str
    dimensions: Dimensions | None
    event_name: str
    identifier: str
    livemode: bool
    superseded_by: str | None
    payload: dict[str, str]
    position: int
    revision: int
    revoked_cancellations: list[RevokedCancellation]
    status: Verdict
    timestamp: int
    unique_value: str | None
    value: Number | None


class ListMeterEvents(AsOfParameters, kw_only=True):
    """Filters for the meter events of a meter: customer, identifier, dimensions, and a range [start_time, end_time)."""

    event_name: Name
    customer: Customer | None = None
    dimension_filters: DimensionFilters | None = None
    end_time: UnixTime | None = None
    identifier: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    start_time: UnixTime | None = None
    starting_after: Id | None = None


class RetrieveMeterEvent(AsOfParameters, kw_only=True):
    """A meter event, now or as of an earlier time."""


@operations.get(URL)
def list_meter_events(context: RequestContext[ListMeterEvents]) -> ListObject[RecordedMeterEvent]:
    """List meter events with their status, oldest first.

    They are ordered by timestamp, then by position in the ledger. A page has fewer than `limit` events, and `has_more`,
    if their payloads have more than 4 MB.
    """
    params, ledger, as_of = context.params, context.ledger, parse_as_of(context.params)
    ledger.metering.meters.get(params.event_name, as_of=as_of)  # raises MeterNotFound, also without events
    events: Iterable[MeterEventView]
    if params.identifier is None:
        wanted = EventFilter(
            params.event_name,
            params.customer,
            None if params.start_time is None else from_unix(params.start_time),
            None if params.end_time is None else from_unix(params.end_time),
            as_of,
            to_where(params.dimension_filters),
        )
        events = read_events(ledger, wanted, params.limit + 1, params.starting_after)
    else:
        if params.dimension_filters is not None:
            raise ApiError(400, "Send either identifier or dimension_filters, not both.", code="parameter_invalid")
        events = _find_by_identifier(context, params.identifier)
    page, has_more = page_within_size(events, params.limit, payload_size)
    data = [RecordedMeterEvent(**recorded_fields(event, ledger)) for event in page]
    return list_response(data, URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_meter_event(context: RequestContext[RetrieveMeterEvent]) -> RecordedMeterEvent:
    """Retrieve a meter event with its status."""
    object_id, as_of = context.path_parameters["id"], parse_as_of(context.params)
    try:
        event = context.ledger.metering.event(decode_id(METER_EVENT_PREFIX, object_id) or "", as_of=as_of)
    except (MeterEventNotFound, InvalidIdentifier, InvalidParameter):
        raise missing_object("meter event", object_id) from None
    return RecordedMeterEvent(**recorded_fields(event, context.ledger))


def recorded_fields(event: MeterEventView, ledger: ServedLedger) -> dict[str, Any]:
    """Return the fields of a recorded meter event."""
    cancelled_at = event.cancelled_at
    return {
        "id": encode_id(METER_EVENT_PREFIX, event.identifier),
        "cancellation": cancelled_at
        and EventCancellation(cancelled_at=to_unix(cancelled_at), reason=event.reason, by=event.by),
        "created": to_unix(event.recorded_at),
        "customer": event.customer,
        "dimensions": event.dimensions or None,
        "event_name": event.event_name,
        "identifier": event.identifier,
        "livemode": ledger.livemode,
        "superseded_by": event.superseded_by,
        "payload": event.payload,
        "position": event.position,
        "revision": event.revision,
        "revoked_cancellations": [
            RevokedCancellation(
                cancelled_at=to_unix(revoked.cancelled_at),
                reason=revoked.reason,
                by=revoked.by,
                revoked_at=to_unix(revoked.revoked_at),
                revocation_reason=revoked.revocation_reason,
                revoked_by=revoked.revoked_by,
            )
            for revoked in event.revoked
        ],
        "status": event.verdict,
        "timestamp": to_unix(event.occurred_at),
        "unique_value": event.unique_value,
        "value": optional_number(event.value),
    }


def payload_size(event: MeterEventView) -> int:
    """Return the bytes of an event's payload in a response."""
    return len(encode(event.payload))


class EventFilter(NamedTuple):
    """Which meter events to read: of a customer, in [start, end), as of a time or position, by dimension values."""

    event_name: str
    customer: str | None
    start: datetime | None
    end: datetime | None
    as_of: datetime | int | None
    where: Where | None


def read_events(
    ledger: ServedLedger, wanted: EventFilter, max_events: int, starting_after: str | None = None
) -> Iterator[MeterEventView]:
    """Yield up to `max_events` events after the event with the id `starting_after`, oldest first. Raises ApiError."""
    cursor = None if starting_after is None else decode_id(METER_EVENT_PREFIX, starting_after)
    if starting_after is not None and not cursor:
        raise cursor_not_found("starting_after", starting_after)

    def read_after(last: MeterEventView | None, count: int) -> Sequence[MeterEventView]:
        try:
            return ledger.metering.events(
                wanted.event_name,
                customer=wanted.customer,
                start=wanted.start,
                end=wanted.end,
                as_of=wanted.as_of,
                where=wanted.where,
                limit=count,
                starting_after=cursor if last is None else last.identifier,
            )
        except InvalidIdentifier:
            raise cursor_not_found("starting_after", starting_after or "") from None

    return read_in_parts(read_after, payload_size, max_events)


def _find_by_identifier(context: RequestContext[ListMeterEvents], identifier: str) -> Sequence[MeterEventView]:
    """Return the event with an identifier if it matches the other filters."""
    params = context.params
    try:
        event = context.ledger.metering.event(identifier, event_name=params.event_name, as_of=parse_as_of(params))
    except MeterEventNotFound:
        return ()
    is_match = (
        params.customer in (None, event.customer)
        and (params.start_time is None or from_unix(params.start_time) <= event.occurred_at)
        and (params.end_time is None or event.occurred_at < from_unix(params.end_time))
        and params.starting_after is None
    )
    return (event,) if is_match else ()
