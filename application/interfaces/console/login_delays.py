"""Slows down failed logins: the response to each one of a client waits longer than the one before.

A valid key never waits: behind a proxy all clients have one address, so anybody could otherwise lock out all users.
Keys have 256 random bits, so their secrecy does not depend on the delay. It slows down clients that retry in a loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..http.errors import ApiError


@dataclass(slots=True)
class _Failures:
    count: int
    last_at: float


class LoginDelays:
    """The failed logins of this process, by the address of the client."""

    def __init__(
        self,
        *,
        first_seconds: float = 0.5,
        max_seconds: float = 8.0,
        forgotten_seconds: float = 900.0,
        max_clients: int = 1_000,
        max_waiting: int = 20,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._first_seconds = first_seconds
        self._max_seconds = max_seconds
        self._forgotten_seconds = forgotten_seconds
        self._max_clients = max_clients
        self._max_waiting = max_waiting
        self._sleep = sleep
        self._failures: dict[str, _Failures] = {}
        self._waiting = 0

    async def fail(self, client: str) -> None:
        """Count a failed login of a client, and delay its response. Raises ApiError if too many responses wait."""
        seconds = self._count(client)
        if self._waiting >= self._max_waiting:
            raise ApiError(429, "Too many logins have failed. Try again in a minute.", headers={"Retry-After": "60"})
        self._waiting += 1
        try:
            await self._sleep(seconds)
        finally:
            self._waiting -= 1

    def succeed(self, client: str) -> None:
        """Forget the failed logins of a client."""
        self._failures.pop(client, None)

    def _count(self, client: str) -> float:
        """Count a failed login, and return how long its response waits."""
        now = time.monotonic()
        failures = self._failures.pop(client, _Failures(0, now))
        count = 1 if now - failures.last_at > self._forgotten_seconds else min(failures.count + 1, 30)
        if len(self._failures) >= self._max_clients:
            del self._failures[next(iter(self._failures))]
        self._failures[client] = _Failures(count, now)
        return min(self._first_seconds * 2.0 ** (count - 1), self._max_seconds)
