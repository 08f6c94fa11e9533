"""Group commit: records waiting requests in one transaction and responds when it is durable.

A request may have events with the identifiers of pruned ones. An archive says whether they are duplicates or
conflicts, and may take long to read. So the new events are recorded with those of all others; then the archive is read
in a query thread, as for a query of the access key; and then the response is stored with the next transaction.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from time import perf_counter

from ....domain.errors import TallybookError
from ....domain.timestamps import to_microseconds
from ...access_keys.views import AccessKeyView
from ...commands.group_commit import may_be_caused_by_one
from ...commands.receipts import PendingReceipt, has_pending
from ...results import Receipt, Receipts
from ...storage.key_value import EntryExists, KeyValueEntry
from .call_scheduler import CallScheduler, shutting_down
from .errors import INTERNAL_ERROR_MESSAGE, ApiError, rate_limited, to_api_error
from .idempotency import IdempotencyKey
from .ledgers import ServedLedger
from .observability.metrics import Observer
from .pending_requests import (
    PendingRequest,
    answer_like_first,
    first_per_idempotency_key,
    receipts_of,
    resolve_futures,
    unprocessed,
)
from .record_queue import QueueClosed, QueueFull, RecordQueue
from .responses import ApiResponse, success

_log = logging.getLogger("tallybook.server")


class GroupCommitter:
    """Records the waiting requests of one ledger, in a thread of its own."""

    def __init__(
        self,
        ledger: ServedLedger,
        observer: Observer,
        queries: CallScheduler,
        requests: RecordQueue[PendingRequest] | None = None,
    ) -> None:
        """`queries` are the threads in which archives are read."""
        self.ledger = ledger
        self._observer = observer
        self._queries = queries
        self._queue: RecordQueue[PendingRequest] = RecordQueue() if requests is None else requests
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="tallybook-committer")
        self._thread.start()

    async def submit(self, request: PendingRequest) -> ApiResponse:
        """Return the response to a request, after its events are durable. Raises ApiError.

        That is 429 if the queue is full. If pruned events can't be compared in time, it says that the new ones are
        recorded.
        """
        self._enqueue(request)
        self._observer.queue_changed(request.event_count)
        try:
            response = await request.future
        finally:
            self._observer.queue_changed(-request.event_count)
        if response is None:
            request.receipts = await self._compare_pruned(request)
            request.event_count, request.future = 0, self._loop.create_future()
            self._enqueue(request)
            response = await request.future
        assert response is not None
        return response

    def close(self) -> None:
        """Record the waiting requests and stop the thread."""
        self._queue.close()
        self._thread.join()

    def _enqueue(self, request: PendingRequest) -> None:
        try:
            self._queue.put(request)
        except QueueFull:
            message = "Too many meter events are waiting to be recorded. Retry later."
            raise rate_limited(message, "global-concurrency") from None
        except QueueClosed:
            raise shutting_down() from None

    async def _compare_pruned(self, request: PendingRequest) -> Receipts:
        """Return the receipts of a request, of which none is pending. Raises ApiError."""
        assert request.receipts is not None
        pending = request.receipts
        try:
            receipts = await self._queries.run(request.caller, partial(self.ledger.usage.compare_pruned, pending))
        except ApiError as api_error:
            raise _not_compared(api_error) from api_error
        compared = [receipt for before, receipt in zip(pending, receipts, strict=True) if receipt is not before]
        self._observer.pruned_compared(compared)
        return receipts

    def _run(self) -> None:
        while requests := self._queue.take_batch():
            self._process(requests)
            self._loop.call_soon_threadsafe(resolve_futures, requests)
        self.ledger.rejected_events.flush(self.ledger.now())

    def _process(self, requests: Sequence[PendingRequest]) -> None:
        try:
            self._commit_batch(requests)
        except Exception as error:
            unanswered = unprocessed(requests)
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
        while unanswered := unprocessed(requests):
            self._replay_responses(unanswered)
            self._restore_identifiers(unprocessed(unanswered))
            batch = first_per_idempotency_key(unprocessed(unanswered))
            with suppress(EntryExists):  # another process has recorded one of the requests
                self._record_batch(batch)
            answer_like_first(unprocessed(unanswered), batch)

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

    def _restore_identifiers(self, requests: Sequence[PendingRequest]) -> None:
        """Let repeated requests have the identifiers of the first ones, which wait for an archive, or did in vain."""
        for request in requests:
            if request.may_need_identifiers and request.idempotency_key is not None:
                identifiers = self.ledger.idempotency.find_identifiers(request.idempotency_key)
                if identifiers is not None:
                    request.set_identifiers(identifiers)

    def _record_batch(self, requests: Sequence[PendingRequest]) -> None:
        if not requests:
            return

        rejected_events = self.ledger.rejected_events

        def attach(receipts: Sequence[Receipt], at: datetime) -> list[KeyValueEntry]:
            rejected_events.begin()
            entries: list[KeyValueEntry] = []
            for request, own in receipts_of(requests, receipts):
                if not has_pending(own):
                    entries += self._complete(request, own, at)
                elif request.may_need_identifiers and not request.has_stored_identifiers:
                    entries.append(self._identifiers_entry(request, own, at))
            return entries

        started = perf_counter()
        record_requests = [
            request.record_request
            for request in requests
            if request.record_request is not None and request.receipts is None
        ]
        try:
            receipts = self.ledger.usage.record_new(
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
        for request, own in receipts_of(requests, receipts):
            request.receipts = Receipts(own)
        decided = [receipt for receipt in receipts if not isinstance(receipt, PendingReceipt)]
        self._observer.batch_committed(decided, perf_counter() - started)
        rejected_events.commit(self.ledger.now())

    def _identifiers_entry(self, request: PendingRequest, receipts: Sequence[Receipt], at: datetime) -> KeyValueEntry:
        assert request.idempotency_key is not None
        identifiers = [receipt.identifier for receipt in receipts]
        return self.ledger.idempotency.identifiers_entry(request.idempotency_key, identifiers, to_microseconds(at))

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
    return ApiError(500, INTERNAL_ERROR_MESSAGE, error_type="api_error")


def _exception_if_unexpected(error: Exception) -> Exception | None:
    return None if isinstance(error, TallybookError) else error


def _not_compared(api_error: ApiError) -> ApiError:
    """Return the error for a request whose pruned events were not compared, because of another error."""
    return ApiError(
        api_error.status, "The new meter events of this request are recorded. Others have the identifiers of old ones, "
        f"and were not compared with them: {api_error}", error_type=api_error.error.type, code=api_error.error.code,
        headers=api_error.headers,
    )  # fmt: skip
