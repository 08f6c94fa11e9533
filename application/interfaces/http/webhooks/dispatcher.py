"""The dispatcher: one elected process creates events and delivers them to the endpoints."""

import asyncio
import logging
import threading
from contextlib import suppress

from .....domain.errors import TallybookError
from ..ledgers import LedgerRegistry, ServedLedger
from ..settings import WebhookSettings
from . import error_reports, meter_events_source
from .deliveries import pending_kind
from .delivery_client import DeliveryClient
from .endpoint_worker import EndpointWorker, ReportDelivery
from .endpoints import Endpoint, EndpointStore
from .retention import run_retention

LEADERSHIP_SECONDS = 300
"""How long a process leads. The limit covers a lock that was lost with its connection, which goes unnoticed."""
_BATCH_SIZE = 1_000
_MAX_TIMESTAMP = 2**62


class Leadership:
    """A period in which only this process dispatches."""

    def __init__(
        self, ledger: ServedLedger, settings: WebhookSettings, report_delivery: ReportDelivery, stop: asyncio.Event
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._report_delivery = report_delivery
        self._stop = stop
        self._endpoints = EndpointStore(ledger.key_values)
        self._meter_events = meter_events_source.MeterEventSource(ledger)
        self._workers: dict[str, tuple[EndpointWorker, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Dispatch until the period is over or `stop` is set."""
        deadline = asyncio.get_running_loop().time() + LEADERSHIP_SECONDS
        async with DeliveryClient(self._settings.allowed_networks) as client, asyncio.TaskGroup() as group:
            retention_task = group.create_task(run_retention(self._ledger, self._settings.purge_interval_seconds))
            while not self._stop.is_set() and asyncio.get_running_loop().time() < deadline:
                await self._tick(client, group)
                await self._sleep(self._settings.poll_interval_seconds)
            retention_task.cancel()
            await self._drain()

    async def _tick(self, client: DeliveryClient, group: asyncio.TaskGroup) -> None:
        endpoints = self._endpoints.all_including_deleted()
        for endpoint in endpoints:
            if endpoint.status == "deleted":
                await self._purge_endpoint(endpoint)
            elif endpoint.id not in self._workers:
                worker = EndpointWorker(self._ledger, endpoint.id, client, self._settings, self._report_delivery)
                self._workers[endpoint.id] = worker, group.create_task(worker.run())
        if await self._create_events(endpoints):
            for worker, _ in self._workers.values():
                worker.wake()

    async def _create_events(self, endpoints: list[Endpoint]) -> bool:
        """Create all pending events. Return whether there were any."""
        has_created = False
        while count := self._meter_events.create_events(endpoints):
            has_created = True
            await asyncio.sleep(0)  # let the endpoint workers run
            if count < meter_events_source.BATCH_SIZE:
                break
        while count := error_reports.create_error_reports(self._ledger, endpoints, self._settings):
            has_created = True
            await asyncio.sleep(0)
            if count < error_reports.BATCH_SIZE:
                break
        return has_created

    async def _purge_endpoint(self, endpoint: Endpoint) -> None:
        """Delete the queue of a deleted endpoint in batches, then the endpoint."""
        worker = self._workers.pop(endpoint.id, None)
        if worker is not None:
            worker[1].cancel()
        if (
            self._ledger.key_values.delete_due_before(pending_kind(endpoint.id), _MAX_TIMESTAMP, _BATCH_SIZE)
            < _BATCH_SIZE
        ):
            self._endpoints.purge(endpoint)

    async def _drain(self) -> None:
        """Wait until the endpoint workers have finished their deliveries, or cancel them if `stop` is set."""
        for worker, _ in self._workers.values():
            worker.drain()
        tasks = [task for _, task in self._workers.values()]
        while not self._stop.is_set() and not all(task.done() for task in tasks):
            await self._sleep(self._settings.poll_interval_seconds)
        for task in tasks:
            task.cancel()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


LOCK_NAME = "dispatching webhooks"
_log = logging.getLogger("tallybook.server")


class WebhookService:
    """Dispatches the webhooks of the live and the test ledger of a server."""

    def __init__(self, ledgers: LedgerRegistry, settings: WebhookSettings, report_delivery: ReportDelivery) -> None:
        self._dispatchers = [
            Dispatcher(ledgers, settings, report_delivery, livemode=livemode) for livemode in (True, False)
        ]

    def close(self) -> None:
        """Stop now. Pending deliveries continue after the next start or in another process."""
        for dispatcher in self._dispatchers:
            dispatcher.stop()
        for dispatcher in self._dispatchers:
            dispatcher.join()


class Dispatcher(threading.Thread):
    """Dispatches for one ledger when it exists and no other process dispatches."""

    def __init__(
        self, ledgers: LedgerRegistry, settings: WebhookSettings, report_delivery: ReportDelivery, *, livemode: bool
    ) -> None:
        super().__init__(name=f"tallybook-webhooks-{'live' if livemode else 'test'}")
        self._ledgers = ledgers
        self._settings = settings
        self._report_delivery = report_delivery
        self._livemode = livemode
        self._stopping = threading.Event()
        self._running_loop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self.start()

    def stop(self) -> None:
        """Request the thread to stop."""
        self._stopping.set()
        if self._running_loop is not None:
            loop, stop = self._running_loop
            with suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(stop.set)

    def run(self) -> None:
        """Dispatch, wait for the lock, or wait until the ledger is available again."""
        checks_existence = True
        while not self._stopping.is_set():
            pause = self._settings.leader_check_interval_seconds
            try:
                if self._ledgers.is_open(livemode=self._livemode) or (
                    checks_existence and self._ledgers.exists(livemode=self._livemode)
                ):
                    pause = self._try_lead(self._ledgers.for_mode(livemode=self._livemode))
                else:
                    checks_existence = False  # later it is created by this process, or by one that dispatches
                    pause = self._settings.poll_interval_seconds
            except* TallybookError as errors:
                _log.warning("Webhooks are paused until the ledger is available: %s", _first_error(errors))
            except* Exception:
                _log.exception("Dispatching webhooks failed; retrying.")
            self._stopping.wait(pause)

    def _try_lead(self, ledger: ServedLedger) -> float:
        """Dispatch if no other process does. Return the seconds until the next attempt."""
        with ledger.key_values.try_lock(LOCK_NAME) as is_leader:
            if is_leader:
                asyncio.run(self._lead(ledger))
        return 0 if is_leader else self._settings.leader_check_interval_seconds

    async def _lead(self, ledger: ServedLedger) -> None:
        stop = asyncio.Event()
        self._running_loop = asyncio.get_running_loop(), stop
        if self._stopping.is_set():
            stop.set()
        await Leadership(ledger, self._settings, self._report_delivery, stop).run()


def _first_error(errors: BaseExceptionGroup[TallybookError]) -> TallybookError:
    """Return the first error of a group."""
    first = errors.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first
