"""Event types, events and how they are stored.

Snapshot events (Stripe's v1) contain the object as it was. Thin events (Stripe's v2) contain only a reference to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any, Literal

import msgspec

from .....domain.timestamps import to_microseconds
from ....storage.key_value import MAX_KEY_LENGTH, KeyValueEntry, KeyValueStore
from ..api_types import ListParameters, Rfc3339
from ..pagination import cursor_not_found, resolve_cursors

METER_UPDATED = "billing.meter.updated"
EVENT_TYPE_BY_METER_CHANGE: Mapping[str, str] = {
    "Configured": "billing.meter.created",
    "Renamed": METER_UPDATED,
    "RulesChanged": METER_UPDATED,
    "Deactivated": "billing.meter.deactivated",
    "Reactivated": "billing.meter.reactivated",
    "DerivedMeterAdded": METER_UPDATED,
}
"""The type of the snapshot event for each stored event of a meter."""
ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"
SNAPSHOT_TYPES = tuple(dict.fromkeys(EVENT_TYPE_BY_METER_CHANGE.values()))
ERROR_REPORT_TYPES = (ERROR_REPORT, NO_METER_FOUND)
THIN_TYPES = (*ERROR_REPORT_TYPES, *(f"v1.{snapshot}" for snapshot in SNAPSHOT_TYPES))
WILDCARD = "*"


def is_enabled(type_: str, enabled_types: Iterable[str]) -> bool:
    """Return whether the enabled types include a type.

    `*` includes each event once: the thin form of a snapshot event has to be enabled by name.
    """
    return type_ in enabled_types or (WILDCARD in enabled_types and type_ in (*SNAPSHOT_TYPES, *ERROR_REPORT_TYPES))


API_VERSION = "2026-10-28.endive"
"""The version of Stripe's API that the event objects follow."""


class RequestReference(msgspec.Struct):
    """The request that caused an event, if known."""

    id: str | None = None
    idempotency_key: str | None = None


class EventData(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The object at the time of the event, and for an update the previous values of changed fields."""

    object: dict[str, Any]
    previous_attributes: dict[str, Any] | None = None


class Event(msgspec.Struct, kw_only=True):
    """A snapshot event, with its object at that time."""

    id: str
    object: Literal["event"] = "event"
    api_version: str = API_VERSION
    created: int
    data: EventData
    livemode: bool
    pending_webhooks: int = 0
    request: RequestReference = msgspec.field(default_factory=RequestReference)
    type: str


class RelatedObject(msgspec.Struct):
    """The object of a thin event, and the URL to fetch it from."""

    id: str
    type: str
    url: str


class Notification(msgspec.Struct, kw_only=True):
    """A thin event as it is delivered, without its data. Fetch the data from the events API."""

    id: str
    object: Literal["v2.core.event"] = "v2.core.event"
    type: str
    created: Rfc3339
    livemode: bool
    context: str | None = None
    reason: dict[str, Any] | None = None
    related_object: RelatedObject | None = None


class EventV2(Notification, kw_only=True):
    """A thin event, with a reference to its object and with further `data`."""

    changes: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    snapshot_event: str | None = None


def new_event_id(at: datetime, number: int, form: Literal["s", "t", "r"], *, livemode: bool) -> str:
    """Return the id of a snapshot event (s), its thin form (t) or a report (r). Ids of later events sort later.

    The id depends only on the time and the number, so that an event that is created twice has one id.
    """
    return f"evt_{'live' if livemode else 'test'}_{to_microseconds(at):014x}{number:012x}{form}"


def to_entry(event: Event | EventV2, at: datetime) -> KeyValueEntry:
    """Return the entry of an event, with its type as the kind."""
    return KeyValueEntry(event.type, event.id, to_microseconds(at), msgspec.json.encode(event))


def from_entry(entry: KeyValueEntry) -> Event | EventV2:
    """Return the event of an entry."""
    return msgspec.json.decode(entry.body, type=EventV2 if entry.kind.startswith("v1.") else Event)


def delivery_body(entry: KeyValueEntry) -> bytes:
    """Return the body to deliver: the complete snapshot event, or the notification of a thin event."""
    event = from_entry(entry)
    if isinstance(event, Event):
        return msgspec.json.encode(event)
    fields = {field: getattr(event, field) for field in Notification.__struct_fields__}
    return msgspec.json.encode(Notification(**fields))


def find_event(key_values: KeyValueStore, event_id: str, types: Sequence[str]) -> KeyValueEntry | None:
    """Return the entry of an event of one of these types; None if it does not exist."""
    for event_type in types:
        entry = key_values.get(event_type, [event_id]).get(event_id)
        if entry is not None:
            return entry
    return None


def list_newest(
    key_values: KeyValueStore,
    types: Sequence[str],
    limit: int,
    *,
    older_than: str | None = None,
    newer_than: str | None = None,
) -> tuple[list[KeyValueEntry], bool]:
    """Return up to `limit` events of these types, newest first, and whether more follow.

    The events are those after the id `older_than`, or those directly before the id `newer_than`.
    """
    is_backward = newer_than is not None
    scans = [key_values.scan(event_type, after=newer_than or older_than, limit=limit + 1, newest_first=not is_backward)
            for event_type in dict.fromkeys(types)]  # fmt: skip
    entries = list(islice(merge(*scans, key=attrgetter("key"), reverse=not is_backward), limit + 1))
    page = entries[:limit]
    return (page[::-1] if is_backward else page), len(entries) > limit


def requested_page(
    key_values: KeyValueStore, types: Sequence[str], params: ListParameters, prefix: str
) -> tuple[list[KeyValueEntry], bool]:
    """Return the requested page of a list, and whether more entries follow. Raises ApiError."""
    after, before = resolve_cursors(params, lambda object_id: object_id if is_valid_id(object_id, prefix) else None)
    return list_newest(key_values, types, params.limit, older_than=after, newer_than=before)


def is_valid_id(object_id: str, prefix: str) -> bool:
    """Return whether an id has the form of stored ids."""
    return (
        object_id.startswith(prefix)
        and object_id.isascii()
        and object_id.isprintable()
        and len(object_id) <= MAX_KEY_LENGTH
    )


def require_valid_cursor(param: str, object_id: str | None, prefix: str) -> None:
    """Raise ApiError if a cursor is not a valid id."""
    if object_id is not None and not is_valid_id(object_id, prefix):
        raise cursor_not_found(param, object_id)
