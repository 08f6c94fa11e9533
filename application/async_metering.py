"""AsyncMetering: the everyday calls of a ledger as coroutines."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from functools import partial, wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from ..domain.acceptance_policy import AcceptancePolicy
from .clock import utc_now
from .metering import Metering
from .storage.postgres.settings import PostgresSettings

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

MAX_THREADS = 40


class AsyncMetering:
    """A ledger for programs with an event loop: its everyday calls are coroutines, which don't block the loop.

    These are `record`, `record_many`, `cancel`, `total`, `totals`, `summaries`, `events`, `event`, `explain`,
    `catch_up` and `verify`. Each runs in one of up to `max_threads` threads; those that record at the same moment share
    a transaction. If a coroutine is cancelled, its call continues: what it records may be stored. Everything else is
    called on `metering`, the same ledger, from any thread.
    """

    def __init__(self, metering: Metering, *, max_threads: int = MAX_THREADS) -> None:
        self.metering = metering
        self._executor = ThreadPoolExecutor(max_threads, thread_name_prefix="tallybook")
        self.record = self._coroutine(metering.record)
        self.record_many = self._coroutine(metering.record_many)
        self.cancel = self._coroutine(metering.cancel)
        self.total = self._coroutine(metering.total)
        self.totals = self._coroutine(metering.totals)
        self.summaries = self._coroutine(metering.summaries)
        self.events = self._coroutine(metering.events)
        self.event = self._coroutine(metering.event)
        self.explain = self._coroutine(metering.explain)
        self.catch_up = self._coroutine(metering.catch_up)
        self.verify = self._coroutine(metering.verify)

    @classmethod
    async def open(
        cls,
        url: str | PostgresSettings,
        *,
        policy: AcceptancePolicy = AcceptancePolicy(),  # noqa: B008 - frozen
        clock: Callable[[], datetime] = utc_now,
        access_log_customers: str | None = None,
        max_threads: int = MAX_THREADS,
    ) -> Self:
        """Open a ledger, or create one, as `Metering.open` does."""
        metering = await asyncio.to_thread(
            Metering.open, url, policy=policy, clock=clock, access_log_customers=access_log_customers
        )
        return cls(metering, max_threads=max_threads)

    async def close(self) -> None:
        """Wait for the calls in progress and close the ledger."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._executor.shutdown()
        self.metering.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _coroutine(self, call: Callable[Arguments, Result]) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
        """Return a coroutine function that runs a call in a thread, with the context variables of the caller."""

        @wraps(call)
        async def run(*args: Arguments.args, **named: Arguments.kwargs) -> Result:
            in_context = partial(copy_context().run, partial(call, *args, **named))
            return await asyncio.get_running_loop().run_in_executor(self._executor, in_context)

        return run
