"""Handles one request: authenticate, parse, run, respond."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar, cast

from ....domain.authorship import acting_as
from ....domain.errors import TallybookError
from ....domain.timestamps import to_microseconds
from ...access_keys.views import AccessKeyView
from .api_request import ApiRequest, fingerprint_of, parse_params, parse_request
from .authentication import parse_credentials
from .call_scheduler import CallLimits, CallScheduler
from .customer_access import admits_limited_keys, run_operation
from .downloads import UnreadDownloads, WrittenDownload
from .errors import (
    INTERNAL_ERROR_MESSAGE,
    ApiError,
    to_api_error,
    too_many_unread_responses,
)
from .group_commit import GroupCommitter
from .idempotency import IdempotencyKey, check_key
from .ledgers import LedgerRegistry, Principal, RequestContext, ServedLedger, is_test_credential
from .memory_budget import MemoryBudget
from .observability.access_log import customer_of
from .observability.metrics import Observer
from .operations import Operation
from .pending_requests import PendingRequest, RecordRequest
from .responses import JSON_MEDIA_TYPE, ApiResponse, error_response, success
from .sent_response import unread_response_budget

Result = TypeVar("Result")

CHANGE_LIMITS = CallLimits(
    threads=4,
    slow_threads=2,
    slow_threads_per_key=2,
    threads_per_key=2,
    waiting_per_key=50,
    timeout_seconds=None,
    reserved_threads=1,
)
"""The limits of all operations that change something, other than recording.

While a key verifies a ledger or changes rules, which may take minutes, its cancellations have the second thread.
"""
MAX_REMEMBERED_CALLERS = 10_000
SHUTDOWN_GRACE_SECONDS = 1.0
"""How long queries may go on after a shutdown was requested."""
MAX_INLINE_PARSE_BYTES = 16 * 1024
"""A larger body is parsed in a thread, because parsing blocks the event loop."""
PARAMETER_NAMES = {
    "formula": "default_aggregation[formula]",
    "customer_key": "customer_mapping[event_payload_key]",
    "value_key": "value_settings[event_payload_key]",
    "dimension_keys": "dimension_payload_keys",
    "optional_dimension_keys": "optional_dimension_payload_keys",
    "where": "dimension_filters",
    "group_by": "dimension_group_by_keys",
    "start": "start_time",
    "end": "end_time",
    "rules": "",
}
"""HTTP parameters of the library's arguments, if the names differ."""

_log = logging.getLogger("tallybook.server")


class RequestHandler:
    """Handles requests: group commit for those that record meter events, threads for the others.

    Queries and changes have separate threads, so that slow queries don't delay cancellations or new sessions.
    """

    def __init__(
        self, ledgers: LedgerRegistry, observer: Observer, unread_responses: MemoryBudget, query_limits: CallLimits
    ) -> None:
        self.ledgers = ledgers
        self.observer = observer
        self.unread_responses = unread_responses
        self.unread_receipts = unread_response_budget()
        """Of recording operations alone: a key that reads slowly can record."""
        self.downloads = UnreadDownloads()
        self._queries = CallScheduler(query_limits, "tallybook-query", is_interruptible=True)
        self._changes = CallScheduler(CHANGE_LIMITS, "tallybook-change", is_interruptible=False)
        self._short_calls = ThreadPoolExecutor(2, "tallybook-authenticate")
        self._parser = ThreadPoolExecutor(1, "tallybook-parse")  # several would not be faster, and delay all others
        self._committers: dict[bool, GroupCommitter] = {}
        self._callers: dict[bytes, str] = {}
        self.shutdown = asyncio.Event()
        """Set when a shutdown is requested. Open streams end then."""
        self.has_abandoned_queries = False
        """Whether threads still wait for the database, after `close`."""

    async def handle(self, operation: Operation, request: ApiRequest) -> ApiResponse | WrittenDownload:
        """Return the response to a request. Errors become responses."""
        try:
            if operation.is_recording:
                return await self._run_group_commit(operation, request)
            return await self._run_in_thread(operation, request)
        except ApiError as api_error:
            return error_response(api_error, is_v2=operation.is_v2)
        except Exception as error:
            return error_response(self._internal_error(error, request), is_v2=operation.is_v2)

    async def find_key(self, operation: Operation, authorization: str) -> str:
        """Return the id of the access key that may run an operation. Raises ApiError."""
        try:
            if operation.is_recording:
                return await self._caller(operation, parse_credentials(authorization), authorization)
            return await self.run_short_call(self._key_id, operation, authorization)
        except TallybookError as error:
            raise to_api_error(error, PARAMETER_NAMES) from error

    async def run_short_call(self, call: Callable[..., Result], *arguments: object) -> Result:
        """Return the result of a call that takes a moment, such as an authentication."""
        return await asyncio.get_running_loop().run_in_executor(self._short_calls, partial(call, *arguments))

    async def run_call(self, key_id: str, call: Callable[[], Result], *, is_query: bool, is_large: bool) -> Result:
        """Return the result of a call, which runs in a thread when it is the turn of its access key. Raises ApiError.

        A query has a deadline; any other call may change the ledger and runs to its end.
        """
        if self.unread_responses.is_exhausted(key_id):
            raise too_many_unread_responses()
        scheduler = self._queries if is_query else self._changes
        return await scheduler.run(key_id, call, is_large=is_large)

    def request_shutdown(self) -> None:
        """End open streams at once, and the queries that are not finished after SHUTDOWN_GRACE_SECONDS."""
        self.shutdown.set()
        loop = asyncio.get_running_loop()
        for scheduler in (self._queries, self._changes):
            loop.call_later(SHUTDOWN_GRACE_SECONDS, scheduler.interrupt_all)

    async def close(self) -> None:
        """Finish all accepted requests other than queries, and stop the threads."""
        self._queries.interrupt_all()  # also those that compare pruned events: no committer waits for them
        for committer in self._committers.values():
            await asyncio.to_thread(committer.close)
        self._changes.interrupt_all()
        await self._changes.close()
        self.has_abandoned_queries = not await self._queries.close(SHUTDOWN_GRACE_SECONDS)
        self._short_calls.shutdown()
        self._parser.shutdown()

    def _key_id(self, operation: Operation, authorization: str) -> str:
        if not operation.is_recording:
            return self._authenticate(operation, authorization).access_key.id
        credentials = parse_credentials(authorization)
        ledger = self.ledgers.for_credentials(credentials)
        return ledger.authenticate_recorder(credentials, by_session=operation.by_session).id

    def _authenticate(self, operation: Operation, authorization: str) -> Principal:
        return self.ledgers.authenticate(authorization, operation.scope, admits_limited=admits_limited_keys(operation))

    async def _run_in_thread(self, operation: Operation, request: ApiRequest) -> ApiResponse | WrittenDownload:
        """Run an operation in a thread, when it is the turn of its access key."""
        principal = await self.run_short_call(self._authenticate, operation, request.authorization)
        key_id = request.trace.key_id = principal.access_key.id
        if operation.media_type != JSON_MEDIA_TYPE:
            self.downloads.check(key_id)
        work = partial(self._execute, principal, operation, request)
        return await self.run_call(key_id, work, is_query=operation.is_query, is_large=operation.is_large)

    def _execute(
        self, principal: Principal, operation: Operation, request: ApiRequest
    ) -> ApiResponse | WrittenDownload:
        """Run an operation in the current thread."""
        ledger, access_key = principal
        check_key(request.idempotency_key)
        context = _build_context(ledger, access_key, request, parse_params(operation, request))

        def work(interrupted_request_id: str | None) -> Any:
            context.interrupted_request_id = interrupted_request_id
            try:
                with acting_as(context.author):
                    result = run_operation(operation, context)
            except TallybookError as error:
                raise self._to_api_error(error, request) from error
            if operation.is_query:
                request.trace.customer = customer_of(context.params, result)
            return result if isinstance(result, WrittenDownload) else success(result)

        if request.idempotency_key is None or not operation.stores_response:
            return work(None)
        idempotency_key = IdempotencyKey(access_key.id, request.idempotency_key, fingerprint_of(operation, request))
        return ledger.idempotency.run_once(idempotency_key, request.request_id, to_microseconds(ledger.now()), work)

    async def _run_group_commit(self, operation: Operation, request: ApiRequest) -> ApiResponse:
        """Record the events of a request by group commit."""
        credentials = parse_credentials(request.authorization)
        caller = await self._caller(operation, credentials, request.authorization)
        if self.unread_receipts.is_exhausted(caller):  # before anything is recorded
            raise too_many_unread_responses()
        ledger, committer = await self._group_committer(credentials)
        params: Any = None
        fingerprint = b""
        parse_error: ApiError | None = None
        try:
            check_key(request.idempotency_key)
            if len(request.body) <= MAX_INLINE_PARSE_BYTES:
                params, fingerprint = parse_request(operation, request)
            else:
                loop = asyncio.get_running_loop()
                params, fingerprint = await loop.run_in_executor(self._parser, parse_request, operation, request)
        except ApiError as api_error:  # reported only after authentication
            parse_error = api_error

        def build_record_request(access_key: AccessKeyView) -> RecordRequest:
            request.trace.key_id = access_key.id
            if parse_error is not None:
                raise parse_error
            context = _build_context(ledger, access_key, request, params)
            return cast(RecordRequest, operation.run(context))._replace(author=context.author)

        request.trace.events = operation.event_count(params)
        pending = PendingRequest(
            caller, credentials, operation.by_session, build_record_request, request.idempotency_key,
            fingerprint, request.request_id, request.trace.events, operation.is_v2,
            asyncio.get_running_loop().create_future(),
        )  # fmt: skip
        return await committer.submit(pending)

    async def _caller(self, operation: Operation, credentials: str, authorization: str) -> str:
        """Return the id of the access key that credentials belong to. Raises ApiError if they never were valid.

        It is remembered, because the committer authenticates again. Otherwise any number of session tokens, or of
        invalid keys, would be as many callers, each with a queue of its own.
        """
        digest = sha256(credentials.encode()).digest()
        key_id = self._callers.get(digest)
        if key_id is None:
            key_id = await self.run_short_call(self._key_id, operation, authorization)
            if len(self._callers) >= MAX_REMEMBERED_CALLERS:
                del self._callers[next(iter(self._callers))]
            self._callers[digest] = key_id
        return key_id

    async def _group_committer(self, credentials: str) -> tuple[ServedLedger, GroupCommitter]:
        livemode = not is_test_credential(credentials)
        if livemode not in self._committers:
            ledger = await asyncio.to_thread(self.ledgers.for_credentials, credentials)
            if livemode not in self._committers:
                self._committers[livemode] = GroupCommitter(ledger, self.observer, self._queries)
        committer = self._committers[livemode]
        return committer.ledger, committer

    def _to_api_error(self, error: TallybookError, request: ApiRequest) -> ApiError:
        api_error = to_api_error(error, PARAMETER_NAMES)
        if api_error.is_server_error:
            _log.error("Request %s failed: %s: %s", request.request_id, error.code, error)
        return api_error

    def _internal_error(self, error: Exception, request: ApiRequest) -> ApiError:
        if isinstance(error, TallybookError):
            return self._to_api_error(error, request)
        _log.error("Request %s failed.", request.request_id, exc_info=error)
        return ApiError(500, INTERNAL_ERROR_MESSAGE, error_type="api_error")


def query_limits(timeout_seconds: float) -> CallLimits:
    """Return the limits of queries, each of which has to finish within the timeout."""
    return CallLimits(
        threads=8,
        slow_threads=2,
        threads_per_key=4,
        waiting_per_key=100,
        timeout_seconds=timeout_seconds,
        reserved_threads=2,
    )


def _build_context(
    ledger: ServedLedger, access_key: AccessKeyView, request: ApiRequest, params: Any
) -> RequestContext[Any]:
    return RequestContext(
        ledger, params, access_key, request.request_id, request.path_parameters, request.idempotency_key
    )
