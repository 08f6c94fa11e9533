"""Events of the last 30 days, as in Stripe's v1 and v2 APIs."""

from typing import Annotated
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from ....storage.key_value import KeyValueEntry
from ..api_types import ListObject, ListParameters, NoParameters, Parameters
from ..errors import missing_object
from ..ledgers import RequestContext, ServedLedger
from ..operations import OperationRegistry
from ..pagination import list_response
from ..webhooks.deliveries import count_pending
from ..webhooks.endpoints import EndpointStore
from ..webhooks.events import (
    SNAPSHOT_TYPES,
    THIN_TYPES,
    Event,
    EventV2,
    find_event,
    is_valid_id,
    list_newest,
    requested_page,
    require_valid_cursor,
)

URL, URL_V2 = "/v1/events", "/v2/core/events"
PREFIX = "evt_"
operations = OperationRegistry("Events")
TypeName = Annotated[str, Meta(min_length=1, max_length=100)]
_BACKWARD = "-"
"""The prefix of a page token for the page before an id."""


class ListEvents(ListParameters, kw_only=True):
    """A filter by event type."""

    type: TypeName | None = None


class ListEventsV2(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A filter by event types. `page` is the token in the page URLs of a response."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    types: Annotated[list[TypeName], Meta(max_length=20)] = msgspec.field(default_factory=list[str])
    page: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class ListObjectV2(msgspec.Struct, kw_only=True):
    """A page of a list."""

    data: list[EventV2]
    next_page_url: str | None
    previous_page_url: str | None


@operations.get(URL)
def list_events(context: RequestContext[ListEvents]) -> ListObject[Event]:
    """List snapshot events of the last 30 days, newest first."""
    types = [event_type for event_type in SNAPSHOT_TYPES if context.params.type in (None, event_type)]
    entries, has_more = requested_page(context.ledger.key_values, types, context.params, PREFIX)
    return list_response([_to_event(entry, context.ledger) for entry in entries], URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_event(context: RequestContext[Parameters]) -> Event:
    """Retrieve a snapshot event of the last 30 days."""
    return _to_event(_find_or_404(context, SNAPSHOT_TYPES), context.ledger)


@operations.get(URL_V2)
def list_events_v2(context: RequestContext[ListEventsV2]) -> ListObjectV2:
    """List thin events of the last 30 days, newest first, including error reports that had no recipient."""
    params = context.params
    types = [event_type for event_type in THIN_TYPES if not params.types or event_type in params.types]
    cursor = (params.page or "").removeprefix(_BACKWARD) or None
    require_valid_cursor("page", cursor, PREFIX)
    is_backward = (params.page or "").startswith(_BACKWARD)
    entries, has_more = list_newest(
        context.ledger.key_values, types, params.limit,
        older_than=None if is_backward else cursor, newer_than=cursor if is_backward else None,
    )  # fmt: skip
    has_older, has_newer = (
        (bool(entries), has_more) if is_backward else (has_more, cursor is not None and bool(entries))
    )
    return ListObjectV2(
        data=[_decode(entry.body) for entry in entries],
        next_page_url=_page_url(params, entries[-1].key) if has_older else None,
        previous_page_url=_page_url(params, _BACKWARD + entries[0].key) if has_newer else None,
    )


@operations.get(URL_V2 + "/{id}")
def retrieve_event_v2(context: RequestContext[NoParameters]) -> EventV2:
    """Retrieve a thin event of the last 30 days, with its data."""
    return _decode(_find_or_404(context, THIN_TYPES).body)


def _find_or_404(
    context: RequestContext[Parameters] | RequestContext[NoParameters], types: tuple[str, ...]
) -> KeyValueEntry:
    object_id = context.path_parameters["id"]
    entry = find_event(context.ledger.key_values, object_id, types) if is_valid_id(object_id, PREFIX) else None
    if entry is None:
        raise missing_object("event", object_id)
    return entry


def _to_event(entry: KeyValueEntry, ledger: ServedLedger) -> Event:
    """Return a snapshot event with the current number of its pending deliveries."""
    event = msgspec.json.decode(entry.body, type=Event)
    if event.pending_webhooks:
        event.pending_webhooks = count_pending(ledger.key_values, event.id, EndpointStore(ledger.key_values).all())
    return event


def _page_url(params: ListEventsV2, token: str) -> str:
    query = [
        ("limit", str(params.limit)),
        *((f"types[{index}]", event_type) for index, event_type in enumerate(params.types)),
    ]
    return f"{URL_V2}?{urlencode([*query, ('page', token)])}"


_decode = msgspec.json.Decoder(EventV2).decode
