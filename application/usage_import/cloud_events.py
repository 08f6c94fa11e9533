"""CloudEvents in JSON: their attributes become the columns of a usage file.

Source: CloudEvents 1.0, JSON Event Format. `source` and `id` together identify an event.
"""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import cast

_MAX_IDENTIFIER_LENGTH = 100


def is_cloud_event(fields: Mapping[str, object]) -> bool:
    """Return whether an object is a CloudEvent with JSON data."""
    required = ("specversion", "id", "source", "type")
    return "payload" not in fields and all(isinstance(fields.get(name), str) for name in required)


def from_cloud_event(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the columns of a CloudEvent: its attributes, its data as the payload, and the columns of the import.

    `type` is also the column `event_name`, `time` is `timestamp`, and `source` with `id` is `identifier`: both, or
    their SHA-256 if they are too long. The payload has the texts and numbers of the data; what is nested is found by a
    path, such as `data.usage.tokens`.
    """
    columns = dict(fields)
    data = columns.get("data")
    if isinstance(data, dict):
        values = cast(dict[str, object], data).items()
        columns["payload"] = {key: value for key, value in values if isinstance(value, str | Decimal)}
    columns.setdefault("event_name", fields["type"])
    columns.setdefault("timestamp", fields.get("time"))
    columns.setdefault("identifier", _identifier(str(fields["source"]), str(fields["id"])))
    return columns


def _identifier(source: str, event_id: str) -> str:
    identifier = f"{source}#{event_id}"
    if len(identifier) <= _MAX_IDENTIFIER_LENGTH:
        return identifier
    return hashlib.sha256(f"{source}\n{event_id}".encode(errors="surrogatepass")).hexdigest()
