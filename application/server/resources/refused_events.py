"""Refused meter events: what a stream brought that can't be counted, whole, so that it can be mended and resent."""

from typing import Literal

import msgspec

from ...stores.kept import KeptRow
from ..desk import Call, Desk
from ..paging import listed
from ..refusals import missing_object
from ..refused_events import REFUSED_EVENT, RefusedEvent
from ..routes import Routes
from ..times import unix
from ..webhooks.stored_events import asked_page, may_be_an_id
from ..wire import Listed, ListParameters, Parameters

URL = "/v1/billing/refused_meter_events"
PREFIX = "mtrerr_"
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
    rows, has_more = asked_page(call.desk.keeper, (REFUSED_EVENT,), call.asked, PREFIX)
    return listed([_answer(row, call.desk) for row in rows], URL, has_more=has_more)


@routes.get(URL + "/{id}")
def retrieve_refused_meter_event(call: Call[Parameters]) -> RefusedMeterEvent:
    """Retrieve a refused meter event."""
    given = call.path["id"]
    row = call.desk.keeper.get(REFUSED_EVENT, [given]).get(given) if may_be_an_id(given, PREFIX) else None
    if row is None:
        raise missing_object("refused meter event", given)
    return _answer(row, call.desk)


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
