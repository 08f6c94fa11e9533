"""Requests that record meter events: their events, their receipts, and the responses to them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from ....domain.authorship import Author
from ....domain.meter_event_input import MeterEventInput
from ...access_keys.views import AccessKeyView
from ...commands.receipts import has_pending
from ...results import Receipt, Receipts
from ...storage.key_value import KeyValueEntry
from .errors import ApiError
from .idempotency import IdempotencyKey, key_in_use
from .responses import ApiResponse, error_response


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
    """The number of its events that are not recorded yet."""
    is_v2: bool
    future: "asyncio.Future[ApiResponse | None]"
    """Done after a transaction: with None if the request has to be compared with pruned events."""
    record_request: RecordRequest | None = None
    idempotency_key: IdempotencyKey | None = None
    has_stored_identifiers: bool = False
    """Whether its events have the identifiers under which an earlier request with its idempotency key recorded them."""
    receipts: Receipts | None = None
    """Those of its events, once these are recorded."""
    response: ApiResponse | None = None

    @property
    def is_processed(self) -> bool:
        """Whether it has a response, or is recorded but has to be compared with pruned events."""
        return self.response is not None or (self.receipts is not None and has_pending(self.receipts))

    @property
    def may_need_identifiers(self) -> bool:
        """Whether some of its events have no identifier, and others have one, which may be that of a pruned event.

        If it is, the request waits for the archive without a response, and a repetition must not record the others
        again.
        """
        if self.idempotency_key is None or self.record_request is None or self.receipts is not None:
            return False
        return len({event.identifier is None for event in self.record_request.event_inputs}) > 1

    def set_identifiers(self, identifiers: Sequence[str | None]) -> None:
        """Let its events that have no identifier have those of an earlier request, in the same order."""
        assert self.record_request is not None
        event_inputs = [
            replace(event, identifier=identifier) if event.identifier is None else event
            for event, identifier in zip(self.record_request.event_inputs, identifiers, strict=True)
        ]
        self.record_request = self.record_request._replace(event_inputs=event_inputs)
        self.has_stored_identifiers = True

    def fail(self, api_error: ApiError) -> None:
        """Respond with an error."""
        self.response = error_response(api_error, is_v2=self.is_v2)


def receipts_of(
    requests: Sequence[PendingRequest], new_receipts: Sequence[Receipt]
) -> Iterator[tuple[PendingRequest, Sequence[Receipt]]]:
    """Yield each request with its receipts: its own, or those of its events in a transaction."""
    start = 0
    for request in requests:
        if request.receipts is None:
            end = start + request.event_count
            yield request, new_receipts[start:end]
            start = end
        else:
            yield request, request.receipts


def unprocessed(requests: Sequence[PendingRequest]) -> list[PendingRequest]:
    """Return the requests that have no response, and no receipts that have to be completed."""
    return [request for request in requests if not request.is_processed]


def first_per_idempotency_key(requests: Sequence[PendingRequest]) -> list[PendingRequest]:
    """Return the first request of each idempotency key. Its response also answers the others of the key."""
    seen_keys: set[str] = set()
    first_requests: list[PendingRequest] = []
    for request in requests:
        storage_key = request.idempotency_key.storage_key if request.idempotency_key else None
        if storage_key is None or storage_key not in seen_keys:
            first_requests.append(request)
            seen_keys |= {storage_key} if storage_key else set()
    return first_requests


def answer_like_first(requests: Sequence[PendingRequest], first_requests: Sequence[PendingRequest]) -> None:
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


def resolve_futures(requests: Sequence[PendingRequest]) -> None:
    """Let the senders of requests go on. Called in the event loop."""
    for request in requests:
        if not request.future.done():
            request.future.set_result(request.response)
