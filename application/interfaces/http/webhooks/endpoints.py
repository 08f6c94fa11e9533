"""Stored webhook endpoints: the URLs and the event types that they receive."""

import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import msgspec

from .....domain.timestamps import to_microseconds
from ....storage.key_value import KeyValueEntry, KeyValueStore
from ....uuid7 import uuid7
from ..api_types import from_unix
from ..errors import ApiError
from .events import is_enabled

ENDPOINT_KIND = "webhook_endpoint"
MAX_ENDPOINTS = 16
_LOCK_ATTEMPTS, _LOCK_RETRY_SECONDS = 100, 0.02
_MAX_STORED_ENDPOINTS = 1_000
"""A limit that is never reached. Deleted endpoints stay stored until the dispatcher has deleted their queues."""

Status = Literal["enabled", "disabled", "deleted"]
EventFormat = Literal["stripe", "cloudevents_structured", "cloudevents_binary"]
"""How events are sent to an endpoint: as Stripe sends them, or as CloudEvents in one of their modes."""


class Endpoint(msgspec.Struct, kw_only=True, frozen=True):
    """A stored endpoint. The secret is stored in plain text, because every delivery is signed with it."""

    id: str
    url: str
    enabled_events: tuple[str, ...]
    description: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    status: Status = "enabled"
    event_format: EventFormat = "stripe"
    created: int
    secret: str
    creation_request: "CreationRequest | None" = None

    def __repr__(self) -> str:
        return f"Endpoint({self.id}, {self.status})"

    def is_subscribed_to(self, type_: str) -> bool:
        """Return whether the endpoint receives events of a type."""
        return self.status == "enabled" and is_enabled(type_, self.enabled_events)


class CreationRequest(msgspec.Struct, frozen=True):
    """The request that created an endpoint: hashes of its idempotency key and parameters."""

    key_hash: str
    params_hash: str


class EndpointStore:
    """The endpoints of one ledger."""

    def __init__(self, key_values: KeyValueStore) -> None:
        self._key_values = key_values

    def all(self) -> list[Endpoint]:
        """Return all endpoints that are not deleted, newest first."""
        return [endpoint for endpoint in reversed(self.all_including_deleted()) if endpoint.status != "deleted"]

    def all_including_deleted(self) -> list[Endpoint]:
        """Return all endpoints, including deleted ones that still have deliveries, oldest first."""
        return [_decode(entry.body) for entry in self._key_values.scan(ENDPOINT_KIND, limit=_MAX_STORED_ENDPOINTS)]

    def find(self, endpoint_id: str) -> Endpoint | None:
        """Return the endpoint with an id; None if it does not exist or is deleted."""
        entry = self._key_values.get(ENDPOINT_KIND, [endpoint_id]).get(endpoint_id)
        endpoint = entry and _decode(entry.body)
        return endpoint if endpoint and endpoint.status != "deleted" else None

    def find_by_idempotency_key(self, key_hash: str) -> Endpoint | None:
        """Return the endpoint that was created with an idempotency key; None if it is deleted."""
        return next(
            (
                endpoint
                for endpoint in self.all()
                if endpoint.creation_request and endpoint.creation_request.key_hash == key_hash
            ),
            None,
        )

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the lock for changes of endpoints, so that no update restores a deleted one. Raises ApiError."""
        for _ in range(_LOCK_ATTEMPTS):
            with self._key_values.try_lock("changing webhook endpoints") as is_locked:
                if is_locked:
                    yield
                    return
            time.sleep(_LOCK_RETRY_SECONDS)
        raise ApiError(409, "Another request is changing webhook endpoints. Retry.", code="lock_timeout")

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint."""
        self._key_values.apply(insert=[_to_entry(endpoint)])

    def save(self, endpoint: Endpoint) -> None:
        """Save a changed endpoint."""
        self._key_values.apply(upsert=[_to_entry(endpoint)])

    def delete(self, endpoint: Endpoint) -> None:
        """Mark an endpoint as deleted. The dispatcher deletes its queue and then the entry."""
        self.save(msgspec.structs.replace(endpoint, status="deleted", secret="", url=""))

    def purge(self, endpoint: Endpoint) -> None:
        """Delete the entry of a deleted endpoint."""
        self._key_values.apply(delete=[(ENDPOINT_KIND, endpoint.id)])


def new_endpoint_id() -> str:
    """Return an id. Ids of newer endpoints sort later."""
    return f"we_{uuid7().hex}"


def new_secret() -> str:
    """Return a secret for signatures."""
    return f"whsec_{secrets.token_urlsafe(32)}"


def _to_entry(endpoint: Endpoint) -> KeyValueEntry:
    return KeyValueEntry(
        ENDPOINT_KIND, endpoint.id, to_microseconds(from_unix(endpoint.created)), msgspec.json.encode(endpoint)
    )


_decode = msgspec.json.Decoder(Endpoint).decode
