"""Webhook events as CloudEvents, whose data is the event as it is delivered without: Stripe's.

Source: CloudEvents 1.0.2, JSON Event Format and HTTP Protocol Binding.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from .....domain.timestamps import from_microseconds
from ....storage.key_value import KeyValueEntry
from ..api_request import CLOUD_EVENT_MEDIA_TYPES
from ..api_types import to_rfc3339
from ..responses import JSON_MEDIA_TYPE
from .endpoints import EventFormat
from .events import Event, delivery_body, from_entry

SPEC_VERSION = "1.0"
STRUCTURED_MEDIA_TYPE, _ = CLOUD_EVENT_MEDIA_TYPES


class Message(NamedTuple):
    """What is sent to an endpoint: the body, and the headers that describe it."""

    body: bytes
    headers: Mapping[str, str]


def to_message(entry: KeyValueEntry, event_format: EventFormat, source: str) -> Message:
    """Return an event in the format of an endpoint. `source` is that of CloudEvents: which ledger it is from."""
    body = delivery_body(entry)
    if event_format == "stripe":
        return Message(body, {"Content-Type": JSON_MEDIA_TYPE})
    attributes = _attributes(entry, source)
    if event_format == "cloudevents_binary":
        headers = {f"ce-{name}": value.replace("%", "%25") for name, value in attributes.items()}
        return Message(body, {"Content-Type": JSON_MEDIA_TYPE, **headers})
    event = {**attributes, "datacontenttype": JSON_MEDIA_TYPE, "data": msgspec.Raw(body)}
    return Message(msgspec.json.encode(event), {"Content-Type": STRUCTURED_MEDIA_TYPE})


def _attributes(entry: KeyValueEntry, source: str) -> dict[str, str]:
    """Return the attributes of an event. All are printable ASCII without spaces and quotation marks."""
    event = from_entry(entry)
    if isinstance(event, Event):
        subject = event.data.object["id"]
    else:
        subject = None if event.related_object is None else event.related_object.id
    return {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": source,
        "type": event.type,
        "time": to_rfc3339(from_microseconds(entry.at)),
        **({} if subject is None else {"subject": subject}),
    }
