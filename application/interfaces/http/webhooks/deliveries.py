"""The delivery queue of each endpoint, the attempts and the retry schedule."""

import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from .....domain.timestamps import MICROSECONDS_PER_SECOND, to_microseconds
from ....storage.key_value import KeyValueEntry, KeyValueStore
from ..settings import WebhookSettings
from .endpoints import Endpoint

DELIVERED, GIVEN_UP = "delivered", "given_up"
_MAX_TIMESTAMP = 2**62
_JITTER = 0.2
_MAX_ERROR_LENGTH = 200


class Delivery(msgspec.Struct, kw_only=True, frozen=True):
    """The delivery of an event to an endpoint. The time of its entry is the next attempt."""

    endpoint: str
    event: str
    type: str
    created: int
    attempts: int = 0
    status: int | None = None
    error: str | None = None
    """The result of the last attempt: the status of the response, or the error."""


def pending_kind(endpoint_id: str) -> str:
    """Return the entry kind of an endpoint's queue. Each endpoint has its own, so that none waits for another."""
    return f"pending/{endpoint_id}"


def new_deliveries(events: Iterable[KeyValueEntry], endpoints: Sequence[Endpoint], at: datetime) -> list[KeyValueEntry]:
    """Return the deliveries of new events to the subscribed endpoints."""
    now = to_microseconds(at)
    return [
        _to_entry(
            pending_kind(endpoint.id),
            Delivery(endpoint=endpoint.id, event=event.key, type=event.kind, created=now),
            now,
        )
        for event in events
        for endpoint in endpoints
        if endpoint.is_subscribed_to(event.kind)
    ]


def next_due(key_values: KeyValueStore, endpoint_id: str) -> tuple[int, Delivery] | None:
    """Return the next delivery to an endpoint and its time in microseconds; None if the queue is empty."""
    entries = key_values.due_before(pending_kind(endpoint_id), _MAX_TIMESTAMP, 1)
    return (entries[0].at, decode_delivery(entries[0])) if entries else None


def count_pending(key_values: KeyValueStore, event_id: str, endpoints: Iterable[Endpoint]) -> int:
    """Return the number of pending deliveries of an event."""
    return sum(len(key_values.get(pending_kind(endpoint.id), [event_id])) for endpoint in endpoints)


def decode_delivery(entry: KeyValueEntry) -> Delivery:
    """Return the delivery of an entry."""
    return msgspec.json.decode(entry.body, type=Delivery)


def record_attempt(delivery: Delivery, status: int | None, error: str | None) -> Delivery:
    """Return the delivery after another attempt."""
    short_error = None if error is None else error[:_MAX_ERROR_LENGTH]
    return msgspec.structs.replace(delivery, attempts=delivery.attempts + 1, status=status, error=short_error)


def schedule_retry(key_values: KeyValueStore, delivery: Delivery, at: datetime, settings: WebhookSettings) -> bool:
    """Schedule another attempt with exponential backoff. Return False if the retry window is over."""
    delay_seconds = min(
        settings.initial_retry_seconds * 2 ** min(delivery.attempts - 1, 40), settings.max_retry_seconds
    )
    next_attempt_at = at + timedelta(seconds=delay_seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no secret
    if to_microseconds(next_attempt_at) - delivery.created > settings.retry_window_seconds * MICROSECONDS_PER_SECOND:
        return False
    key_values.apply(upsert=[_to_entry(pending_kind(delivery.endpoint), delivery, to_microseconds(next_attempt_at))])
    return True


def finish(key_values: KeyValueStore, delivery: Delivery, kind: str, at: datetime) -> None:
    """Move a delivery from the queue to the finished ones: delivered or given up."""
    pending_key = pending_kind(delivery.endpoint), delivery.event
    finished = KeyValueEntry(
        kind, f"{delivery.event}/{delivery.endpoint}", to_microseconds(at), msgspec.json.encode(delivery)
    )
    key_values.apply(delete=[pending_key], upsert=[finished])


def _to_entry(kind: str, delivery: Delivery, at: int) -> KeyValueEntry:
    return KeyValueEntry(kind, delivery.event, at, msgspec.json.encode(delivery))
