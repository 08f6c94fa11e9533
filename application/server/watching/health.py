"""Health: whether the process answers, and whether its ledger does."""

import asyncio
import logging
import time
from typing import NamedTuple

import msgspec

from ....domain.errors import TallybookError
from ....projections.generations import GenerationState
from ...ledger_url import locate
from ...stores.sqlite_store import SQLiteStore
from ..answers import Answer
from ..desks import Desks
from ..refusals import UNAVAILABLE
from ..wire import encode

FRESH_SECONDS, PATIENCE_SECONDS = 1.0, 5.0
"""How long what was found is told again, and how long the ledger may take."""
_log = logging.getLogger("tallybook.server")


class Projection(NamedTuple):
    """How far the read models are folded, of how far they could be."""

    position: int
    head: int
    lag: int


class Health(NamedTuple):
    """How the ledger is; where it doesn't answer, nothing is known of its read models."""

    status: str
    projection: Projection | None = None


class Told(msgspec.Struct, omit_defaults=True):
    """What a probe is told: how much there is in the ledger is told to nobody without a key."""

    status: str
    lag: int | None = None


class Found(NamedTuple):
    """What was found, and when by the monotonic clock."""

    health: Health
    at: float


ALIVE = Answer(200, encode(Told("alive")))


class Readiness:
    """Asks the ledger, however often it is asked itself, one time a second at most."""

    def __init__(self, desks: Desks, url: str) -> None:
        self._desks = desks
        self._store = locate(url)
        self._found: Found | None = None
        self._asking: asyncio.Task[Health] | None = None

    async def answer(self) -> Answer:
        """200 where the ledger answers and takes transactions, 503 where it doesn't."""
        health = await self.health()
        if health.projection is None:
            return Answer(UNAVAILABLE, encode(Told(health.status)))
        return Answer(200, encode(Told(health.status, health.projection.lag)))

    async def health(self) -> Health:
        """How the ledger is now."""
        if self._found is not None and time.monotonic() - self._found.at < FRESH_SECONDS:
            return self._found.health
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                health = await asyncio.shield(self._asking)
        except Exception:  # whatever it is, the ledger doesn't answer
            _log.exception("The ledger isn't ready.")
            health = Health("unavailable")
        self._found = Found(health, time.monotonic())
        return health

    def _ask(self) -> Health:
        """Read where the projection is, and begin and end a transaction that writes nothing."""
        desk = self._desks.of(livemode=True)
        try:
            if isinstance(self._store, SQLiteStore) and not self._store.exists():
                return Health("unavailable")  # what is open still is a file without a name, which ends with the process
            live = next(one for one in desk.metering.generations() if one.state == GenerationState.LIVE)
            desk.keeper.change(remove=[("probe", "none")])
        except TallybookError as error:
            _log.error("The ledger isn't ready: %s: %s", error.code, error.message)
            return Health("unavailable")
        return Health("ready", Projection(live.position, live.head, live.head - live.position))
