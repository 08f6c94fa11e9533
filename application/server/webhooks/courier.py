"""A courier: takes deliveries to one endpoint, one after the other, so that no endpoint waits for another."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import httpx

from ....domain.instants import MICROSECONDS_PER_SECOND, microseconds
from ..desk import Desk
from .deliveries import DELIVERED, GIVEN_UP, Delivery, keep_trying, next_one, settle, tried
from .endpoints import Endpoint, Endpoints
from .events import delivered_body
from .sending import send
from .settings import WebhookSettings

FAILED = "failed"
Tell = Callable[[str], None]
"""Is told what became of each attempt: delivered, failed or given_up."""

_LONGEST_WAIT_SECONDS = 60
_log = logging.getLogger("tallybook.server")


class Courier:
    """Takes what is due to one endpoint there."""

    def __init__(
        self, desk: Desk, endpoint_id: str, client: httpx.AsyncClient, settings: WebhookSettings, tell: Tell
    ) -> None:
        self._desk = desk
        self._endpoint_id = endpoint_id
        self._client = client
        self._settings = settings
        self._tell = tell
        self._news = asyncio.Event()
        self._is_ending = False

    def look(self) -> None:
        """There may be something new to deliver."""
        self._news.set()

    def end(self) -> None:
        """Finish what is being delivered, and end."""
        self._is_ending = True
        self._news.set()

    async def run(self) -> None:
        """Deliver what is due, as it becomes due."""
        while not self._is_ending:
            self._news.clear()
            first = next_one(self._desk.keeper, self._endpoint_id)
            seconds = self._seconds_until(first[0]) if first else _LONGEST_WAIT_SECONDS
            if first and seconds <= 0:
                await self._deliver(first[1])
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), min(seconds, _LONGEST_WAIT_SECONDS))

    def _seconds_until(self, at: int) -> float:
        return (at - microseconds(self._desk.now())) / MICROSECONDS_PER_SECOND

    async def _deliver(self, delivery: Delivery) -> None:
        keeper = self._desk.keeper
        endpoint = Endpoints(keeper).find(self._endpoint_id)
        event = keeper.get(delivery.type, [delivery.event]).get(delivery.event)
        if endpoint is None or event is None:
            settle(keeper, delivery, GIVEN_UP, self._desk.now())  # deleted, or too old to be read
        elif endpoint.status == "disabled":
            over = tried(delivery, None, "The endpoint is disabled.")
            settle(keeper, over, GIVEN_UP, self._desk.now())
        else:
            await self._attempt(endpoint, delivery, delivered_body(event))

    async def _attempt(self, endpoint: Endpoint, delivery: Delivery, body: bytes) -> None:
        desk, settings = self._desk, self._settings
        outcome = await send(self._client, endpoint, body, desk.now(), settings.timeout_seconds)
        after = tried(delivery, *outcome)
        if outcome.is_delivered:
            settle(desk.keeper, after, DELIVERED, desk.now())
            self._tell(DELIVERED)
        elif keep_trying(desk.keeper, after, desk.now(), settings):
            self._tell(FAILED)
        else:
            settle(desk.keeper, after, GIVEN_UP, desk.now())
            self._tell(GIVEN_UP)
            _log.warning(
                "The event %s (%s) is given up: the webhook endpoint %s didn't take it in %d attempts, the last of "
                "which ended with %s.",
                after.event, after.type, endpoint.id, after.attempts, after.status or after.error,
            )  # fmt: skip
