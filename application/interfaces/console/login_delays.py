"""Slows down failed logins: each one of a client makes its next attempt wait longer."""

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

    async def wait(self, client: str) -> None:
        """Wait before an attempt of a client. Raises ApiError if too many attempts wait."""
        seconds = self.seconds(client)
        if not seconds:
            return
        if self._waiting >= self._max_waiting:
            raise ApiError(429, "Too many logins have failed. Try again in a minute.", headers={"Retry-After": "60"})
        self._waiting += 1
        try:
            await self._sleep(seconds)
        finally:
            self._waiting -= 1

    def seconds(self, client: str) -> float:
        """Return how long the next attempt of a client waits."""
        failures = self._failures.get(client)
        if failures is None or time.monotonic() - failures.last_at > self._forgotten_seconds:
            return 0.0
        return min(self._first_seconds * 2.0 ** (failures.count - 1), self._max_seconds)

    def failed(self, client: str) -> None:
        """Count a failed attempt of a client."""
        count = self._failures[client].count if self.seconds(client) else 0
        self._failures.pop(client, None)
        if len(self._failures) >= self._max_clients:
            del self._failures[next(iter(self._failures))]
        self._failures[client] = _Failures(min(count + 1, 30), time.monotonic())

    def succeeded(self, client: str) -> None:
        """Forget the failed attempts of a client."""
        self._failures.pop(client, None)
