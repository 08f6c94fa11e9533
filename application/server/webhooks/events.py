"""Events as they go over the wire and are kept: snapshots, thin ones, and the notifications of thin ones."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from ....domain.instants import microseconds
from ...stores.kept import KeptRow
from ..times import Rfc3339

API_VERSION = "2026-10-28.endive"
"""The version of Stripe's API whose forms these are."""


class ByRequest(msgspec.Struct):
    """The request that caused an event, where it is known."""

    id: str | None = None
    idempotency_key: str | None = None


class Snapshot(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an event is about, as it was then; and what was otherwise before, where it was updated."""

    object: dict[str, Any]
    previous_attributes: dict[str, Any] | None = None


class Event(msgspec.Struct, kw_only=True):
    """Something that happened, with its object as it was then."""

    id: str
    object: Literal["event"] = "event"
    api_version: str = API_VERSION
    created: int
    data: Snapshot
    livemode: bool
    pending_webhooks: int = 0
    request: ByRequest = msgspec.field(default_factory=ByRequest)
    type: str


class RelatedObject(msgspec.Struct):
    """What a thin event is about, and where to fetch it."""

    id: str
    type: str
    url: str


class Notification(msgspec.Struct, kw_only=True):
    """A thin event as it is delivered: without its data, which is fetched."""

    id: str
    object: Literal["v2.core.event"] = "v2.core.event"
    type: str
    created: Rfc3339
    livemode: bool
    context: str | None = None
    reason: dict[str, Any] | None = None
    related_object: RelatedObject | None = None


class EventV2(Notification, kw_only=True):
    """Something that happened, told by what it is about; `data` holds what there is to say besides."""

    changes: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    snapshot_event: str | None = None


def event_id(at: datetime, number: int, form: Literal["s", "t", "r"], *, livemode: bool) -> str:
    """The id of an event: of a snapshot, a thin form of one, or a report. Ids of events that came later sort later.

    It follows from when it happened and from its number, so that what is told twice has one id.
    """
    return f"evt_{'live' if livemode else 'test'}_{microseconds(at):014x}{number:012x}{form}"


def kept(event: Event | EventV2, at: datetime) -> KeptRow:
    """An event, as it is kept: under its type."""
    return KeptRow(event.type, event.id, microseconds(at), msgspec.json.encode(event))


def read(row: KeptRow) -> Event | EventV2:
    """An event that was kept."""
    return msgspec.json.decode(row.body, type=EventV2 if row.kind.startswith("v1.") else Event)


def delivered_body(row: KeptRow) -> bytes:
    """What is delivered of an event: snapshots whole, of thin ones the notification."""
    event = read(row)
    if isinstance(event, Event):
        return msgspec.json.encode(event)
    told = {field: getattr(event, field) for field in Notification.__struct_fields__}
    return msgspec.json.encode(Notification(**told))
