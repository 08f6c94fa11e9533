"""Events: what happened, to be read for 30 days, as Stripe's v1 and v2 have them."""

from typing import Annotated
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from ...stores.kept import KeptRow
from ..desk import Call, Desk
from ..paging import listed
from ..refusals import missing_object
from ..routes import Routes
from ..webhooks.deliveries import pending_webhooks
from ..webhooks.endpoints import Endpoints
from ..webhooks.event_types import SNAPSHOTS, THIN
from ..webhooks.events import Event, EventV2
from ..webhooks.stored_events import asked_page, check_place, find, may_be_an_id, newest
from ..wire import Listed, ListParameters, NoParameters, Parameters

URL, URL_V2 = "/v1/events", "/v2/core/events"
PREFIX = "evt_"
routes = Routes("Events")
TypeName = Annotated[str, Meta(min_length=1, max_length=100)]
_NEWER = "-"
"""Before the id in a page token: the page that ends there, not the one that begins there."""


class ListEvents(ListParameters, kw_only=True):
    """All events, or those of one type."""

    type: TypeName | None = None


class ListEventsV2(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """All events, or those of some types. `page` is out of the URLs in an answer."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    types: Annotated[list[TypeName], Meta(max_length=20)] = msgspec.field(default_factory=list[str])
    page: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class ListedV2(msgspec.Struct, kw_only=True):
    """A page of a list."""

    data: list[EventV2]
    next_page_url: str | None
    previous_page_url: str | None


@routes.get(URL)
def list_events(call: Call[ListEvents]) -> Listed[Event]:
    """List snapshot events of the last 30 days, newest first."""
    types = [one for one in SNAPSHOTS if call.asked.type in (None, one)]
    rows, has_more = asked_page(call.desk.keeper, types, call.asked, PREFIX)
    return listed([_event(row, call.desk) for row in rows], URL, has_more=has_more)


@routes.get(URL + "/{id}")
def retrieve_event(call: Call[Parameters]) -> Event:
    """Retrieve a snapshot event, within 30 days."""
    return _event(_found(call, SNAPSHOTS), call.desk)


@routes.get(URL_V2)
def list_events_v2(call: Call[ListEventsV2]) -> ListedV2:
    """List thin events of the last 30 days, newest first: error reports too, whether anybody was told of them."""
    asked = call.asked
    types = [one for one in THIN if not asked.types or one in asked.types]
    place = (asked.page or "").removeprefix(_NEWER) or None
    check_place("page", place, PREFIX)
    is_up = (asked.page or "").startswith(_NEWER)
    rows, has_more = newest(
        call.desk.keeper, types, asked.limit,
        older_than=None if is_up else place, newer_than=place if is_up else None,
    )  # fmt: skip
    is_older, is_newer = (bool(rows), has_more) if is_up else (has_more, place is not None and bool(rows))
    return ListedV2(
        data=[_decode(row.body) for row in rows],
        next_page_url=_page_url(asked, rows[-1].key) if is_older else None,
        previous_page_url=_page_url(asked, _NEWER + rows[0].key) if is_newer else None,
    )


@routes.get(URL_V2 + "/{id}")
def retrieve_event_v2(call: Call[NoParameters]) -> EventV2:
    """Retrieve a thin event with its data, within 30 days."""
    return _decode(_found(call, THIN).body)


def _found(call: Call[Parameters] | Call[NoParameters], types: tuple[str, ...]) -> KeptRow:
    given = call.path["id"]
    found = find(call.desk.keeper, given, types) if may_be_an_id(given, PREFIX) else None
    if found is None:
        raise missing_object("event", given)
    return found


def _event(row: KeptRow, desk: Desk) -> Event:
    """A snapshot event, with to how many endpoints it is still to be delivered."""
    event = msgspec.json.decode(row.body, type=Event)
    if event.pending_webhooks:
        event.pending_webhooks = pending_webhooks(desk.keeper, event.id, Endpoints(desk.keeper).all())
    return event


def _page_url(asked: ListEventsV2, token: str) -> str:
    given = [("limit", str(asked.limit)), *((f"types[{at}]", one) for at, one in enumerate(asked.types))]
    return f"{URL_V2}?{urlencode([*given, ('page', token)])}"


_decode = msgspec.json.Decoder(EventV2).decode
