"""Webhook endpoints: where events are delivered to, and which ones."""

import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import msgspec
from uuid_utils import uuid7

from ....domain.instants import microseconds
from ...stores.kept import Keeper, KeptRow
from ..refusals import Refusal
from ..times import at_unix
from .event_types import is_wanted

ENDPOINT = "webhook_endpoint"
MOST_ENDPOINTS = 16
_TRIES, _PAUSE_SECONDS = 100, 0.02
_MOST_ROWS = 1_000
"""More than there are ever: those that are deleted wait here for the dispatcher."""

Status = Literal["enabled", "disabled", "deleted"]


class Endpoint(msgspec.Struct, kw_only=True, frozen=True):
    """An endpoint as it is kept. Its secret is kept as it is: every delivery is signed with it."""

    id: str
    url: str
    enabled_events: tuple[str, ...]
    description: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    status: Status = "enabled"
    created: int
    secret: str
    begun_with: "Beginning | None" = None

    def __repr__(self) -> str:
        return f"Endpoint({self.id}, {self.status})"

    def wants(self, type_: str) -> bool:
        """Whether events of a type are to be delivered to it."""
        return self.status == "enabled" and is_wanted(type_, self.enabled_events)


class Beginning(msgspec.Struct, frozen=True):
    """The request that began an endpoint, by the hashes of its idempotency key and of what it asked."""

    key: str
    asked: str


class Endpoints:
    """The endpoints of one ledger."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def all(self) -> list[Endpoint]:
        """All endpoints that are not deleted, newest first."""
        return [one for one in reversed(self.rows()) if one.status != "deleted"]

    def rows(self) -> list[Endpoint]:
        """All endpoints, also those that are deleted and still have deliveries, oldest first."""
        return [_decode(row.body) for row in self._keeper.select(ENDPOINT, limit=_MOST_ROWS)]

    def find(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint with an id, unless it is deleted."""
        row = self._keeper.get(ENDPOINT, [endpoint_id]).get(endpoint_id)
        endpoint = row and _decode(row.body)
        return endpoint if endpoint and endpoint.status != "deleted" else None

    def begun_with(self, key: str) -> Endpoint | None:
        """The endpoint that a request with this idempotency key began, unless it is deleted."""
        return next((one for one in self.all() if one.begun_with and one.begun_with.key == key), None)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Be the only one who changes endpoints, so that none is put back that was deleted. Raises Refusal."""
        for _ in range(_TRIES):
            with self._keeper.alone("changing webhook endpoints") as is_alone:
                if is_alone:
                    yield
                    return
            time.sleep(_PAUSE_SECONDS)
        raise Refusal(409, "Another request changes webhook endpoints now. Try again.", code="lock_timeout")

    def add(self, endpoint: Endpoint) -> None:
        """Begin an endpoint."""
        self._keeper.change(add=[_row(endpoint)])

    def put(self, endpoint: Endpoint) -> None:
        """Let an endpoint be so."""
        self._keeper.change(put=[_row(endpoint)])

    def delete(self, endpoint: Endpoint) -> None:
        """Deliver nothing to an endpoint any more. It is taken away once its deliveries are."""
        self.put(msgspec.structs.replace(endpoint, status="deleted", secret="", url=""))

    def remove(self, endpoint: Endpoint) -> None:
        """Take away an endpoint that was deleted."""
        self._keeper.change(remove=[(ENDPOINT, endpoint.id)])


def new_endpoint_id() -> str:
    """An id. Those of endpoints that began later sort later."""
    return f"we_{uuid7().hex}"


def new_secret() -> str:
    """A secret to sign deliveries with."""
    return f"whsec_{secrets.token_urlsafe(32)}"


def _row(endpoint: Endpoint) -> KeptRow:
    return KeptRow(ENDPOINT, endpoint.id, microseconds(at_unix(endpoint.created)), msgspec.json.encode(endpoint))


_decode = msgspec.json.Decoder(Endpoint).decode
