"""Refused meter events: what a stream brought that can't be counted, whole, so that it can be mended and resent."""

from typing import Literal

import msgspec

from ...stores.kept import LONGEST_KEY, KeptRow
from ..desk import Call, Desk
from ..paging import listed
from ..refusals import Refusal, invalid_parameter, missing_object
from ..refused_events import REFUSED_EVENT, RefusedEvent
from ..routes import Routes
from ..times import unix
from ..webhooks.stored_events import newest
from ..wire import Listed, ListParameters, Parameters

URL = "/v1/billing/refused_meter_events"
routes = Routes("Refused meter events")


class RefusedMeterEvent(msgspec.Struct, kw_only=True):
    """A meter event that was refused after its request was answered. `code` and `message` say why."""

    id: str
    object: Literal["billing.refused_meter_event"] = "billing.refused_meter_event"
    code: str
    created: int
    event_name: str
    identifier: str | None
    livemode: bool
    message: str
    payload: dict[str, str]
    request: "RefusedIn"
    timestamp: int | None


class RefusedIn(msgspec.Struct):
    """The request that brought it."""

    id: str
    idempotency_key: str | None


@routes.get(URL)
def list_refused_meter_events(call: Call[ListParameters]) -> Listed[RefusedMeterEvent]:
    """List refused meter events of the last 35 days, newest first."""
    asked = call.asked
    if asked.starting_after and asked.ending_before:
        raise Refusal(400, "starting_after and ending_before can't be given both.", code="parameter_invalid")
    for param in ("starting_after", "ending_before"):
        given = getattr(asked, param)
        if given is not None and not _may_be_an_id(given):
            raise invalid_parameter(param, f"Invalid {param}: '{given}' is nothing in this list.", "resource_missing")
    rows, has_more = newest(
        call.desk.keeper, (REFUSED_EVENT,), asked.limit, older_than=asked.starting_after, newer_than=asked.ending_before
    )
    return listed([_answer(row, call.desk) for row in rows], URL, has_more=has_more)


@routes.get(URL + "/{id}")
def retrieve_refused_meter_event(call: Call[Parameters]) -> RefusedMeterEvent:
    """Retrieve a refused meter event."""
    given = call.path["id"]
    row = call.desk.keeper.get(REFUSED_EVENT, [given]).get(given) if _may_be_an_id(given) else None
    if row is None:
        raise missing_object("refused meter event", given)
    return _answer(row, call.desk)


def _may_be_an_id(given: str) -> bool:
    return given.startswith("mtrerr_") and given.isascii() and given.isprintable() and len(given) <= LONGEST_KEY


def _answer(row: KeptRow, desk: Desk) -> RefusedMeterEvent:
    event = msgspec.json.decode(row.body, type=RefusedEvent)
    return RefusedMeterEvent(
        id=row.key,
        code=event.code,
        created=row.at // 1_000_000,
        event_name=event.event_name,
        identifier=event.identifier,
        livemode=desk.livemode,
        message=event.message,
        payload=event.payload,
        request=RefusedIn(event.request_id, event.idempotency_key),
        timestamp=None if event.timestamp is None else unix(event.timestamp),
    )
