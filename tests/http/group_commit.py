"""A group committer and requests for it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import cast

from tallybook.application import Metering, Receipt
from tallybook.application.access_keys.views import AccessKeyView
from tallybook.application.interfaces.http.authentication import Authenticator
from tallybook.application.interfaces.http.call_scheduler import CallScheduler
from tallybook.application.interfaces.http.group_commit import GroupCommitter
from tallybook.application.interfaces.http.idempotency import request_fingerprint
from tallybook.application.interfaces.http.ledgers import ServedLedger
from tallybook.application.interfaces.http.observability.metrics import Observer
from tallybook.application.interfaces.http.pending_requests import PendingRequest, RecordRequest, RecordResponse
from tallybook.application.interfaces.http.record_queue import RecordQueue
from tallybook.application.interfaces.http.request_handler import query_limits
from tallybook.application.interfaces.http.responses import ApiResponse
from tallybook.domain.meter_event_input import MeterEventInput

QUERY_TIMEOUT_SECONDS = 10
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
CreateResponse = Callable[[Sequence[Receipt], datetime], RecordResponse]


class BatchGate:
    """Blocks the committer while it handles one request."""

    def __init__(self) -> None:
        self._is_blocked, self._is_released = Event(), Event()

    def block(self) -> None:
        """Block until released."""
        self._is_blocked.set()
        assert self._is_released.wait(10)

    async def wait_until_blocked(self) -> None:
        """Wait until the batch is blocked."""
        assert await asyncio.to_thread(self._is_blocked.wait, 10)

    def release(self) -> None:
        """Unblock the batch."""
        self._is_released.set()


class RecordingObserver:
    """Records the calls of a committer."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.waiting_events = 0
        self.compared = 0

    def queue_changed(self, events: int) -> None:
        """Add to the number of waiting events."""
        self.waiting_events += events

    def batch_committed(self, receipts: Sequence[Receipt], seconds: float) -> None:
        """Record the size of a transaction."""
        assert seconds >= 0
        self.commits.append(len(receipts))

    def pruned_compared(self, receipts: Sequence[Receipt]) -> None:
        """Count the events that were compared with pruned ones."""
        self.compared += len(receipts)


def serve_ledger(metering: Metering) -> ServedLedger:
    """Return the served ledger of a Metering."""
    return ServedLedger(metering, Authenticator(metering), livemode=True)


@asynccontextmanager
async def open_committer(
    ledger: ServedLedger,
    observer: RecordingObserver | None = None,
    requests: RecordQueue[PendingRequest] | None = None,
) -> AsyncGenerator[GroupCommitter]:
    """Open a committer until the end of the block."""
    queries = CallScheduler(query_limits(QUERY_TIMEOUT_SECONDS), "test-query", is_interruptible=True)
    committer = GroupCommitter(ledger, cast(Observer, observer or RecordingObserver()), queries, requests)
    try:
        yield committer
    finally:
        await asyncio.to_thread(committer.close)
        await queries.close()


def meter_events(*values: str, event_name: str = "tokens") -> list[MeterEventInput]:
    """Return meter events of one customer, without identifiers."""
    return [MeterEventInput(event_name, {"stripe_customer_id": "cus_1", "value": value}) for value in values]


def outcomes(receipts: Sequence[Receipt], at: datetime) -> RecordResponse:
    """Return a response with the outcome of each event."""
    return RecordResponse([receipt.outcome.value for receipt in receipts])


def pending_request(
    credentials: str,
    event_inputs: Sequence[MeterEventInput],
    create_response: CreateResponse = outcomes,
    *,
    key: str | None = None,
    gate: BatchGate | None = None,
) -> PendingRequest:
    """Return a request to record. A request with a `gate` blocks its batch."""

    def record_request(_: AccessKeyView) -> RecordRequest:
        if gate is not None:
            gate.block()
        return RecordRequest(event_inputs, create_response)

    content = "".join(event_input.payload["value"] for event_input in event_inputs).encode()
    return PendingRequest(
        credentials,
        credentials,
        False,
        record_request,
        key,
        request_fingerprint("POST", "/", content),
        f"req_{id(event_inputs)}",
        len(event_inputs),
        False,
        asyncio.get_running_loop().create_future(),
    )


async def enqueue(
    committer: GroupCommitter, first: PendingRequest, gate: BatchGate, *others: PendingRequest
) -> "list[asyncio.Task[ApiResponse]]":
    """Submit requests; all but the first wait while the batch of the first is blocked."""
    blocked = asyncio.create_task(committer.submit(first))
    await gate.wait_until_blocked()
    tasks = [blocked, *(asyncio.create_task(committer.submit(request)) for request in others)]
    await asyncio.sleep(0)  # they are in the queue
    return tasks


async def commit_together(
    committer: GroupCommitter, first: PendingRequest, gate: BatchGate, *others: PendingRequest
) -> list[ApiResponse]:
    """Return the responses to requests that wait together while the first one is recorded."""
    tasks = await enqueue(committer, first, gate, *others)
    gate.release()
    return await asyncio.gather(*tasks)


def total(metering: Metering) -> str:
    """Return the recorded total of the customer."""
    return str(metering.total("tokens", "cus_1", START, END).value)
