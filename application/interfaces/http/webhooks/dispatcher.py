"""The dispatcher: one elected process creates events and delivers them to the endpoints."""

import asyncio
from contextlib import suppress
from contextvars import Context
from datetime import timedelta

from .....domain.errors import TallybookError
from ....jobs.job import Job, JobRun
from ..ledgers import ServedLedger
from ..settings import WebhookSettings
from . import error_reports, meter_events_source
from .deliveries import pending_kind
from .delivery_client import DeliveryClient
from .endpoint_worker import EndpointWorker, ReportDelivery
from .endpoints import Endpoint, EndpointStore

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
            while not self._stop.is_set() and asyncio.get_running_loop().time() < deadline:
                await self._tick(client, group)
                await self._sleep(self._settings.poll_interval_seconds)
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


def webhooks_job(ledger: ServedLedger, settings: WebhookSettings, report_delivery: ReportDelivery) -> Job:
    """Return the job `webhooks`: dispatch in one process at a time, for one period after the other."""

    def run(run: JobRun) -> None:
        try:
            Context().run(asyncio.run, _dispatch(run))  # without the interruption: a delivery in progress is finished
        except ExceptionGroup as errors:
            errors_of_ledger = errors.subgroup(TallybookError)
            raise errors if errors_of_ledger is None else _first_error(errors_of_ledger) from None

    async def _dispatch(run: JobRun) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def request_stop() -> None:
            with suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(stop.set)

        run.call_on_stop(request_stop)
        await Leadership(ledger, settings, report_delivery, stop).run()

    retry = timedelta(seconds=settings.leader_check_interval_seconds)
    return Job("webhooks", None, run, retry=retry)


def _first_error(errors: BaseExceptionGroup[TallybookError]) -> TallybookError:
    """Return the first error of a group."""
    first = errors.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first
