"""The worker of one endpoint: delivers its events in order, independently of other endpoints."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from .....domain.timestamps import MICROSECONDS_PER_SECOND, to_microseconds
from ..ledgers import ServedLedger
from ..settings import WebhookSettings
from .cloud_events import Message, to_message
from .deliveries import DELIVERED, GIVEN_UP, Delivery, finish, next_due, record_attempt, schedule_retry
from .delivery_client import DeliveryClient
from .endpoints import Endpoint, EndpointStore

FAILED = "failed"
ReportDelivery = Callable[[str], None]
"""Called with the outcome of each attempt: delivered, failed or given_up."""

_MAX_WAIT_SECONDS = 60
_log = logging.getLogger("tallybook.server")


class EndpointWorker:
    """Delivers the due events of one endpoint."""

    def __init__(
        self,
        ledger: ServedLedger,
        endpoint_id: str,
        client: DeliveryClient,
        settings: WebhookSettings,
        report_delivery: ReportDelivery,
    ) -> None:
        self._ledger = ledger
        self._endpoint_id = endpoint_id
        self._client = client
        self._settings = settings
        self._report_delivery = report_delivery
        self._wake_event = asyncio.Event()
        self._is_draining = False
        self._logged_address_error: str | None = None

    def wake(self) -> None:
        """Check the queue now."""
        self._wake_event.set()

    def drain(self) -> None:
        """Finish the current delivery, and stop."""
        self._is_draining = True
        self._wake_event.set()

    async def run(self) -> None:
        """Deliver events when they are due, until drained."""
        while not self._is_draining:
            self._wake_event.clear()
            next_delivery = next_due(self._ledger.key_values, self._endpoint_id)
            seconds = self._seconds_until(next_delivery[0]) if next_delivery else _MAX_WAIT_SECONDS
            if next_delivery and seconds <= 0:
                await self._deliver(next_delivery[1])
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake_event.wait(), min(seconds, _MAX_WAIT_SECONDS))

    def _seconds_until(self, at: int) -> float:
        return (at - to_microseconds(self._ledger.now())) / MICROSECONDS_PER_SECOND

    async def _deliver(self, delivery: Delivery) -> None:
        key_values = self._ledger.key_values
        endpoint = EndpointStore(key_values).find(self._endpoint_id)
        event = key_values.get(delivery.type, [delivery.event]).get(delivery.event)
        if endpoint is None or event is None:
            finish(
                key_values, delivery, GIVEN_UP, self._ledger.now()
            )  # the endpoint was deleted, or the event has expired
        elif endpoint.status == "disabled":
            attempted = record_attempt(delivery, None, "The endpoint is disabled.")
            finish(key_values, attempted, GIVEN_UP, self._ledger.now())
        else:
            message = to_message(event, endpoint.event_format, self._settings.source)
            await self._attempt(endpoint, delivery, message)

    async def _attempt(self, endpoint: Endpoint, delivery: Delivery, message: Message) -> None:
        ledger, settings = self._ledger, self._settings
        result = await self._client.send(endpoint, message, ledger.now(), settings.timeout_seconds)
        if result.is_address_rejected:
            self._log_rejected_address(result.error)
        attempted = record_attempt(delivery, result.status, result.error)
        if result.is_delivered:
            finish(ledger.key_values, attempted, DELIVERED, ledger.now())
            self._report_delivery(DELIVERED)
        elif schedule_retry(ledger.key_values, attempted, ledger.now(), settings):
            self._report_delivery(FAILED)
        else:
            finish(ledger.key_values, attempted, GIVEN_UP, ledger.now())
            self._report_delivery(GIVEN_UP)
            _log.warning(
                "The delivery of event %s (%s) was given up: the webhook endpoint %s did not accept it in %d attempts. "
                "The last result was %s.",
                attempted.event, attempted.type, endpoint.id, attempted.attempts, attempted.status or attempted.error,
            )  # fmt: skip

    def _log_rejected_address(self, error: str | None) -> None:
        """Log once that the host may not be connected to. The retries change nothing until somebody acts."""
        if error != self._logged_address_error:
            self._logged_address_error = error
            _log.warning("Nothing is delivered to the webhook endpoint %s. %s", self._endpoint_id, error)
