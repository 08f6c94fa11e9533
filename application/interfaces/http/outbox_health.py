"""The lag of an outbox in /readyz and /metrics."""

import asyncio
import logging

import msgspec

from ....domain.errors import TallybookError
from ...outbox.outbox import Outbox
from ...outbox.results import OutboxLag

OUTBOX_TIMEOUT_SECONDS = 2.0
"""How long a probe waits for the database of the outbox."""
_log = logging.getLogger("tallybook.server")


class OutboxHealth(msgspec.Struct, omit_defaults=True):
    """The lag of an outbox, as in OutboxLag; only the status `unavailable` if its database can't be read."""

    status: str
    waiting: int | None = None
    rejected: int | None = None
    age_seconds: float | None = None


class OutboxProbe:
    """Reads the lag of an outbox, one query at a time."""

    def __init__(self, outbox: Outbox, *, timeout_seconds: float = OUTBOX_TIMEOUT_SECONDS) -> None:
        self._outbox = outbox
        self._timeout_seconds = timeout_seconds
        self._pending_query: asyncio.Task[OutboxLag] | None = None

    async def check(self) -> OutboxHealth:
        """Return the lag, or `unavailable` after the timeout; the query goes on, and the next probe waits for it."""
        if self._pending_query is None or self._pending_query.done():
            self._pending_query = asyncio.create_task(asyncio.to_thread(self._outbox.lag))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                lag = await asyncio.shield(self._pending_query)
        except (TallybookError, TimeoutError) as error:
            _log.error("The outbox can't be read: %s", error or "the time is over.")
            return OutboxHealth("unavailable")
        return OutboxHealth("ready", lag.waiting, lag.rejected, lag.age_seconds)

    def close(self) -> None:
        """Close the connections to the outbox."""
        self._outbox.close()
