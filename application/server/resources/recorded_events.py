"""Meter events as the ledger holds them: what was reported, and whether it counts."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ....domain.errors import InvalidIdentifier, InvalidParameter, NoMeterEvent
from ...results import MeterEventView, Verdict
from ..asof import KnownAsOf, as_of
from ..desk import Call, Desk
from ..ids import METER_EVENT, id_of, name_of
from ..paging import listed, not_in_list
from ..refusals import missing_object
from ..routes import Routes
from ..times import UnixTime, at_unix, unix
from ..wire import Customer, Id, Listed, Name, Number, number

URL = "/v1/billing/meter_events"
routes = Routes("Recorded meter events")


Status = Literal["counted", "overwritten", "cancelled"]
STATUSES: Mapping[Verdict, Status] = {
    Verdict.COUNTED: "counted",
    Verdict.OVERWRITTEN: "overwritten",
    Verdict.CANCELLED: "cancelled",
}


class EventCancellation(msgspec.Struct, kw_only=True):
    """When a meter event was cancelled, why, and by whom, where that was told."""

    cancelled_at: int
    reason: str | None
    by: str | None


class RecordedMeterEvent(msgspec.Struct, kw_only=True):
    """A use that is recorded at a `position` of the ledger, and whether it counts.

    An overwritten one is replaced by a later arrival in its hour or day, whose identifier `overwritten_by` is.
    """

    id: str
    object: Literal["billing.meter_event"] = "billing.meter_event"
    cancellation: EventCancellation | None
    created: int
    customer: str
    dimensions: dict[str, str] | None
    event_name: str
    identifier: str
    livemode: bool
    overwritten_by: str | None
    payload: dict[str, str]
    position: int
    status: Status
    timestamp: int
    value: Number | None


class ListMeterEvents(KnownAsOf, kw_only=True):
    """The meter events of a meter: of one customer or all, in [start_time, end_time) or ever."""

    event_name: Name
    customer: Customer | None = None
    end_time: UnixTime | None = None
    identifier: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    start_time: UnixTime | None = None
    starting_after: Id | None = None


class RetrieveMeterEvent(KnownAsOf, kw_only=True):
    """A meter event, as it is or was."""


@routes.get(URL)
def list_meter_events(call: Call[ListMeterEvents]) -> Listed[RecordedMeterEvent]:
    """List meter events with whether they count, oldest first.

    Ordered by when the use happened, and of equal times by the order of their recording.
    """
    asked, desk, known = call.asked, call.desk, as_of(call.asked)
    meter = desk.metering.meter(asked.event_name, as_of=known)
    events = _found(call) if asked.identifier is None else _identified(call, asked.identifier)
    data = [RecordedMeterEvent(**recorded_fields(event, meter.dimension_keys, desk)) for event in events[: asked.limit]]
    return listed(data, URL, has_more=len(events) > asked.limit)


@routes.get(URL + "/{id}")
def retrieve_meter_event(call: Call[RetrieveMeterEvent]) -> RecordedMeterEvent:
    """Retrieve a meter event with whether it counts."""
    given, known = call.path["id"], as_of(call.asked)
    try:
        event = call.desk.metering.event(name_of(METER_EVENT, given) or "", as_of=known)
    except (NoMeterEvent, InvalidIdentifier, InvalidParameter):
        raise missing_object("meter event", given) from None
    meter = call.desk.metering.meter(event.event_name, as_of=known)
    return RecordedMeterEvent(**recorded_fields(event, meter.dimension_keys, call.desk))


def recorded_fields(event: MeterEventView, dimension_keys: Sequence[str], desk: Desk) -> dict[str, Any]:
    """What is told of a meter event, by field."""
    cancelled_at = event.cancelled_at
    return {
        "id": id_of(METER_EVENT, event.identifier),
        "cancellation": cancelled_at
        and EventCancellation(cancelled_at=unix(cancelled_at), reason=event.reason, by=event.by),
        "created": unix(event.recorded_at),
        "customer": event.customer,
        "dimensions": {key: event.payload[key] for key in dimension_keys if key in event.payload} or None,
        "event_name": event.event_name,
        "identifier": event.identifier,
        "livemode": desk.livemode,
        "overwritten_by": event.overwritten_by,
        "payload": event.payload,
        "position": event.position,
        "status": STATUSES[event.verdict],
        "timestamp": unix(event.occurred_at),
        "value": None if event.value is None else number(event.value),
    }


def _found(call: Call[ListMeterEvents]) -> Sequence[MeterEventView]:
    """The page that is asked for, and one beyond it."""
    asked = call.asked
    after = None if asked.starting_after is None else name_of(METER_EVENT, asked.starting_after)
    try:
        if asked.starting_after is None or after:
            return call.desk.metering.events(
                asked.event_name,
                customer=asked.customer,
                start=None if asked.start_time is None else at_unix(asked.start_time),
                end=None if asked.end_time is None else at_unix(asked.end_time),
                as_of=as_of(asked),
                limit=asked.limit + 1,
                starting_after=after,
            )
    except InvalidIdentifier:
        pass
    raise not_in_list("starting_after", asked.starting_after or "")


def _identified(call: Call[ListMeterEvents], identifier: str) -> Sequence[MeterEventView]:
    """The one event of an identifier, where it is among those that are asked for."""
    asked = call.asked
    try:
        event = call.desk.metering.event(identifier, as_of=as_of(asked))
    except NoMeterEvent:
        return ()
    is_asked_for = (
        event.event_name == asked.event_name
        and asked.customer in (None, event.customer)
        and (asked.start_time is None or at_unix(asked.start_time) <= event.occurred_at)
        and (asked.end_time is None or event.occurred_at < at_unix(asked.end_time))
        and asked.starting_after is None
    )
    return (event,) if is_asked_for else ()
