"""Group commit: records waiting requests in one transaction and responds when it is durable."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import NamedTuple

from ....domain.authorship import Author
from ....domain.errors import TallybookError
from ....domain.meter_event_input import MeterEventInput
from ....domain.timestamps import to_microseconds
from ...access_keys.views import AccessKeyView
from ...commands.group_commit import may_be_caused_by_one
from ...results import Receipt
from ...storage.key_value import EntryExists, KeyValueEntry
from .errors import ApiError, rate_limited, to_api_error
from .idempotency import IdempotencyKey, key_in_use
from .ledgers import ServedLedger
from .observability.metrics import Observer
from .record_queue import QueueFull, RecordQueue
from .responses import ApiResponse, error_response, success

_log = logging.getLogger("tallybook.server")


class RecordResponse(NamedTuple):
    """The response body of a request, and the entries to store in the transaction of its events."""

    body: object
    entries: Sequence[KeyValueEntry] = ()


class RecordRequest(NamedTuple):
    """The meter events of a request. `build_response` receives their receipts and may raise ApiError."""

    event_inputs: Sequence[MeterEventInput]
    build_response: Callable[[Sequence[Receipt], datetime], RecordResponse]
    author: Author | None = None


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request in the queue. `caller` is the id of the access key that the credentials belonged to when it came."""

    caller: str
    credentials: str
    by_session: bool
    build_record_request: Callable[[AccessKeyView], RecordRequest]
    """Called after authentication. Raises ApiError."""
    raw_key: str | None
    fingerprint: bytes
    request_id: str
    event_count: int
    is_v2: bool
    future: "asyncio.Future[ApiResponse]"
    record_request: RecordRequest | None = None
    idempotency_key: IdempotencyKey | None = None
    response: ApiResponse | None = None

    def fail(self, api_error: ApiError) -> None:
        """Respond with an error."""
        self.response = error_response(api_error, is_v2=self.is_v2)


class GroupCommitter:
    """Records the waiting requests of one ledger, in a thread of its own."""

    def __init__(
        self, ledger: ServedLedger, observer: Observer, requests: RecordQueue[PendingRequest] | None = None
    ) -> None:
        self.ledger = ledger
        self._observer = observer
        self._queue: RecordQueue[PendingRequest] = RecordQueue() if requests is None else requests
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="tallybook-committer")
        self._thread.start()

    async def submit(self, request: PendingRequest) -> ApiResponse:
        """Return the response to a request, after its events are durable. Raises ApiError if the queue is full."""
        try:
            self._queue.put(request)
        except QueueFull:
            message = "Too many meter events are waiting to be recorded. Retry later."
            raise rate_limited(message, "global-concurrency") from None
        self._observer.queue_changed(request.event_count)
        try:
            return await request.future
        finally:
            self._observer.queue_changed(-request.event_count)

    def close(self) -> None:
        """Record the waiting requests and stop the thread."""
        self._queue.close()
        self._thread.join()

    def _run(self) -> None:
        while requests := self._queue.take_batch():
            self._process(requests)
            self._loop.call_soon_threadsafe(_resolve_futures, requests)
        self.ledger.rejected_events.flush(self.ledger.now())

    def _process(self, requests: Sequence[PendingRequest]) -> None:
        try:
            self._commit_batch(requests)
        except Exception as error:
            unanswered = _without_response(requests)
            api_error = _recording_error(error)
            if len(unanswered) == 1 or not may_be_caused_by_one(error):
                _log.error(
                    "Recording failed, %d requests: %s",
                    len(unanswered),
                    error,
                    exc_info=_exception_if_unexpected(error),
                )
                for request in unanswered:
                    request.fail(api_error)
            else:
                for request in unanswered:
                    self._process([request])

    def _commit_batch(self, requests: Sequence[PendingRequest]) -> None:
        self._authenticate(requests)
        while unanswered := _without_response(requests):
            self._replay_responses(unanswered)
            batch = _first_per_idempotency_key(_without_response(unanswered))
            with suppress(EntryExists):  # another process has recorded one of the requests
                self._record_batch(batch)
            _answer_like_first(_without_response(unanswered), batch)

    def _authenticate(self, requests: Sequence[PendingRequest]) -> None:
        """Authenticate each request; query each key and session once."""
        access_keys: dict[tuple[str, bool], AccessKeyView | ApiError] = {}
        for request in requests:
            if request.record_request is None:
                caller = request.credentials, request.by_session
                if caller not in access_keys:
                    access_keys[caller] = self._authenticate_one(*caller)
                self._prepare(request, access_keys[caller])

    def _authenticate_one(self, credentials: str, by_session: bool) -> AccessKeyView | ApiError:
        try:
            return self.ledger.authenticate_recorder(credentials, by_session=by_session)
        except ApiError as api_error:
            return api_error

    def _prepare(self, request: PendingRequest, access_key: AccessKeyView | ApiError) -> None:
        if isinstance(access_key, ApiError):
            request.fail(access_key)
            return
        try:
            request.record_request = request.build_record_request(access_key)
        except ApiError as api_error:
            request.fail(api_error)
            return
        if request.raw_key is not None:
            request.idempotency_key = IdempotencyKey(access_key.id, request.raw_key, request.fingerprint)

    def _replay_responses(self, requests: Sequence[PendingRequest]) -> None:
        """Respond to repeated requests with their stored responses."""
        requests_with_keys = [
            (request, request.idempotency_key) for request in requests if request.idempotency_key is not None
        ]
        responses = (
            self.ledger.idempotency.find_responses([key for _, key in requests_with_keys]) if requests_with_keys else {}
        )
        for request, key in requests_with_keys:
            response = responses.get(key)
            if isinstance(response, ApiError):
                request.fail(response)
            else:
                request.response = response

    def _record_batch(self, requests: Sequence[PendingRequest]) -> None:
        if not requests:
            return

        rejected_events = self.ledger.rejected_events

        def attach(receipts: Sequence[Receipt], at: datetime) -> list[KeyValueEntry]:
            rejected_events.begin()
            entries: list[KeyValueEntry] = []
            start = 0
            for request in requests:
                end = start + request.event_count
                entries += self._complete(request, receipts[start:end], at)
                start = end
            return entries

        started = perf_counter()
        record_requests = [request.record_request for request in requests if request.record_request is not None]
        try:
            receipts = self.ledger.metering.record_many(
                [event_input for record_request in record_requests for event_input in record_request.event_inputs],
                attach=attach,
                authors=[
                    record_request.author for record_request in record_requests for _ in record_request.event_inputs
                ],
            )
        except BaseException:
            for request in requests:  # the transaction was rolled back: drop the responses
                request.response = None
            raise
        self._observer.batch_committed(receipts, perf_counter() - started)
        rejected_events.commit(self.ledger.now())

    def _complete(self, request: PendingRequest, receipts: Sequence[Receipt], at: datetime) -> Sequence[KeyValueEntry]:
        """Set the response of a request, and return the entries to store with its events."""
        assert request.record_request is not None
        try:
            record_response = request.record_request.build_response(receipts, at)
        except ApiError as api_error:
            request.fail(api_error)
            return ()
        request.response = success(record_response.body)
        if request.idempotency_key is None:
            return record_response.entries
        entry = self.ledger.idempotency.entry(
            request.idempotency_key, request.response, request.request_id, to_microseconds(at)
        )
        return (*record_response.entries, entry)


def _recording_error(error: Exception) -> ApiError:
    if isinstance(error, TallybookError):
        return to_api_error(error, {})
    return ApiError(500, "An internal error occurred; nothing was recorded.", error_type="api_error")


def _exception_if_unexpected(error: Exception) -> Exception | None:
    return None if isinstance(error, TallybookError) else error


def _without_response(requests: Sequence[PendingRequest]) -> list[PendingRequest]:
    return [request for request in requests if request.response is None]


def _first_per_idempotency_key(requests: Sequence[PendingRequest]) -> list[PendingRequest]:
    """Return the first request of each idempotency key. Its response also answers the others of the key."""
    seen_keys: set[str] = set()
    first_requests: list[PendingRequest] = []
    for request in requests:
        storage_key = request.idempotency_key.storage_key if request.idempotency_key else None
        if storage_key is None or storage_key not in seen_keys:
            first_requests.append(request)
            seen_keys |= {storage_key} if storage_key else set()
    return first_requests


def _answer_like_first(requests: Sequence[PendingRequest], first_requests: Sequence[PendingRequest]) -> None:
    """Respond to requests whose idempotency key is that of a rejected first request, which stores no response.

    The same request would be rejected for the same reason. Another one came while the first was in progress.
    """
    rejected = {
        first.idempotency_key: first.response
        for first in first_requests
        if first.idempotency_key is not None and first.response is not None and not first.response.is_success
    }
    keys_in_use = {key.storage_key for key in rejected}
    for request in requests:
        key = request.idempotency_key
        if key in rejected:
            request.response = rejected[key]
        elif key is not None and key.storage_key in keys_in_use:
            request.fail(key_in_use(key.key))


def _resolve_futures(requests: Sequence[PendingRequest]) -> None:
    for request in requests:
        if not request.future.done():
            assert request.response is not None
            request.future.set_result(request.response)
