"""CloudEvents: which of their attributes become which fields of a meter event, in files, topics and HTTP requests.

Source: CloudEvents 1.0, JSON Event Format. `source` and `id` together identify an event.
"""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

_MAX_IDENTIFIER_LENGTH = 100


def is_cloud_event(fields: Mapping[str, object]) -> bool:
    """Return whether an object is a CloudEvent with JSON data."""
    required = ("specversion", "id", "source", "type")
    return "payload" not in fields and all(isinstance(fields.get(name), str) for name in required)


def from_cloud_event(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the columns of a CloudEvent: its attributes, its data as the payload, and the columns of the import.

    `type` is also the column `event_name`, `time` is `timestamp`, and `source` with `id` is `identifier`. The payload
    has the texts and numbers of the data; what is nested is found by a path, such as `data.usage.tokens`.
    """
    columns = dict(fields)
    data = columns.get("data")
    if isinstance(data, dict):
        columns["payload"] = payload_of(cast(dict[str, object], data))
    columns.setdefault("event_name", fields["type"])
    columns.setdefault("timestamp", fields.get("time"))
    columns.setdefault("identifier", identifier_of(str(fields["source"]), str(fields["id"])))
    return columns


def payload_of(data: Mapping[str, object]) -> dict[str, str | int | Decimal]:
    """Return the texts and numbers of the data of an event."""
    return {
        key: value
        for key, value in data.items()
        if isinstance(value, str | int | Decimal) and not isinstance(value, bool)
    }


def add_customer(payload: dict[str, Any], customer_key: str, subject: object) -> None:
    """Store the subject of an event under the customer key of its meter, if its data has no such key."""
    if isinstance(subject, str) and subject:
        payload.setdefault(customer_key, subject)


def identifier_of(source: str, event_id: str) -> str:
    """Return the identifier of an event: its source and id, or their SHA-256 if they are too long."""
    identifier = f"{source}#{event_id}"
    if len(identifier) <= _MAX_IDENTIFIER_LENGTH:
        return identifier
    return hashlib.sha256(f"{source}\n{event_id}".encode(errors="surrogatepass")).hexdigest()
