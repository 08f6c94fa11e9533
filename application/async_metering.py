"""AsyncMetering: the everyday calls of a ledger as coroutines."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from decimal import Decimal
from functools import partial, wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from ..domain.acceptance_policy import AcceptancePolicy
from ..domain.authorship import Author
from ..domain.meter_event_input import MeterEventInput
from .clock import utc_now
from .commands.receipts import has_pending, require_recorded
from .commands.usage import AttachToReceipts
from .metering import Metering
from .results import Receipt, Receipts
from .storage.postgres.settings import PostgresSettings

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

MAX_THREADS = 40


class AsyncMetering:
    """A ledger for programs with an event loop: its everyday calls are coroutines, which don't block the loop.

    These are `record`, `record_many`, `cancel`, `total`, `totals`, `summaries`, `events`, `event`, `explain`,
    `catch_up` and `verify`. Each runs in one of up to `max_threads` threads; those that record have as many threads of
    their own, which wait for no query and no archive, and share a transaction if they record at the same moment. If a
    coroutine is cancelled, its call continues: what it records may be stored. Everything else is called on `metering`,
    the same ledger, from any thread.
    """

    def __init__(self, metering: Metering, *, max_threads: int = MAX_THREADS) -> None:
        self.metering = metering
        self._executor = ThreadPoolExecutor(max_threads, thread_name_prefix="tallybook")
        self._recording = ThreadPoolExecutor(max_threads, thread_name_prefix="tallybook-record")
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

    async def record(
        self,
        event_name: str,
        payload: Mapping[str, str | int | Decimal],
        *,
        identifier: str | None = None,
        timestamp: datetime | None = None,
    ) -> Receipt:
        """Record one meter event, as `Metering.record` does."""
        meter_event = {"event_name": event_name, "payload": payload, "identifier": identifier, "timestamp": timestamp}
        receipt = await self._run(self._recording, partial(self.metering.imports.usage.record_one_new, meter_event))
        (receipt,) = await self._compare_pruned(Receipts([receipt]))
        if receipt.error is not None:
            raise receipt.error
        return receipt

    async def record_many(
        self,
        meter_events: Iterable[MeterEventInput | Mapping[str, object] | object],
        *,
        strict: bool = False,
        attach: AttachToReceipts | None = None,
        authors: Sequence[Author | None] | None = None,
    ) -> Receipts:
        """Record many meter events in one transaction, as `Metering.record_many` does."""
        if attach is not None:  # it needs all receipts in the transaction, which waits for the archive then
            call = partial(self.metering.record_many, meter_events, strict=strict, attach=attach, authors=authors)
            return await self._run(self._executor, call)
        record_new = partial(self.metering.imports.usage.record_new, meter_events, authors=authors)
        receipts = await self._compare_pruned(await self._run(self._recording, record_new))
        if strict:
            require_recorded(receipts)
        return receipts

    async def _compare_pruned(self, receipts: Receipts) -> Receipts:
        """Return receipts of which none is pending. An archive is read among the queries."""
        if not has_pending(receipts):
            return receipts
        return await self._run(self._executor, partial(self.metering.imports.usage.compare_pruned, receipts))

    async def close(self) -> None:
        """Wait for the calls in progress and close the ledger."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._recording.shutdown()
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
            return await self._run(self._executor, partial(call, *args, **named))

        return run

    @staticmethod
    async def _run(executor: ThreadPoolExecutor, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(executor, copy_context().run, call)
