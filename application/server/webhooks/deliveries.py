"""Deliveries: that an event is to go to an endpoint, how often that was tried, and how it ended."""

import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from ....domain.instants import MICROSECONDS_PER_SECOND, microseconds
from ...stores.kept import Keeper, KeptRow
from .endpoints import Endpoint
from .settings import WebhookSettings

DELIVERED, GIVEN_UP = "delivered", "given_up"
_FOR_EVER = 2**62
_JITTER = 0.2
_LONGEST_ERROR = 200


class Delivery(msgspec.Struct, kw_only=True, frozen=True):
    """That an event is to go to an endpoint. Its row's time is when that is to be tried next."""

    endpoint: str
    event: str
    type: str
    begun: int
    attempts: int = 0
    status: int | None = None
    error: str | None = None
    """How the last attempt ended: the status of its answer, or why there was none."""


def pending(endpoint_id: str) -> str:
    """The kind that an endpoint's deliveries are kept as: each endpoint's apart, so that none waits for another's."""
    return f"pending/{endpoint_id}"


def deliveries(events: Iterable[KeptRow], endpoints: Sequence[Endpoint], at: datetime) -> list[KeptRow]:
    """What is to be delivered of new events."""
    now = microseconds(at)
    return [
        _row(pending(endpoint.id), Delivery(endpoint=endpoint.id, event=event.key, type=event.kind, begun=now), now)
        for event in events
        for endpoint in endpoints
        if endpoint.wants(event.kind)
    ]


def next_one(keeper: Keeper, endpoint_id: str) -> tuple[int, Delivery] | None:
    """The delivery to an endpoint that is due first, and when; None where there is none."""
    rows = keeper.due(pending(endpoint_id), _FOR_EVER, 1)
    return (rows[0].at, read(rows[0])) if rows else None


def pending_webhooks(keeper: Keeper, event_id: str, endpoints: Iterable[Endpoint]) -> int:
    """To how many endpoints an event is still to be delivered."""
    return sum(len(keeper.get(pending(one.id), [event_id])) for one in endpoints)


def read(row: KeptRow) -> Delivery:
    """A delivery that was kept."""
    return msgspec.json.decode(row.body, type=Delivery)


def tried(delivery: Delivery, status: int | None, error: str | None) -> Delivery:
    """A delivery after another attempt."""
    told = None if error is None else error[:_LONGEST_ERROR]
    return msgspec.structs.replace(delivery, attempts=delivery.attempts + 1, status=status, error=told)


def keep_trying(keeper: Keeper, delivery: Delivery, at: datetime, settings: WebhookSettings) -> bool:
    """Try a delivery again later, after a pause that grows; give False where its time is over, and nothing is done."""
    pause = min(settings.first_retry_seconds * 2 ** min(delivery.attempts - 1, 40), settings.longest_retry_seconds)
    again = at + timedelta(seconds=pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no secret
    if microseconds(again) - delivery.begun > settings.give_up_seconds * MICROSECONDS_PER_SECOND:
        return False
    keeper.change(put=[_row(pending(delivery.endpoint), delivery, microseconds(again))])
    return True


def settle(keeper: Keeper, delivery: Delivery, kind: str, at: datetime) -> None:
    """Let a delivery be over: delivered, or given up."""
    place = pending(delivery.endpoint), delivery.event
    over = KeptRow(kind, f"{delivery.event}/{delivery.endpoint}", microseconds(at), msgspec.json.encode(delivery))
    keeper.change(remove=[place], put=[over])


def _row(kind: str, delivery: Delivery, at: int) -> KeptRow:
    return KeptRow(kind, delivery.event, at, msgspec.json.encode(delivery))
