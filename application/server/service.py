"""The service: every request, whatever it asks, is let in, read, done and answered in one way."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...domain.errors import TallybookError
from ...domain.instants import microseconds
from ..access import AccessKeyView
from .answers import JSON, Answer, done, refused
from .committing import Committer, Recording, Ticket
from .credentials import credentials_of
from .desk import Call, Desk
from .desks import Desks, is_for_tests
from .forms import FORM, read_form
from .idempotency import IdempotencyKey, check_key, fingerprint_of
from .parameters import read_json, read_parameters
from .refusals import Refusal, invalid_parameter, refusal_of, too_much
from .routes import Operation
from .watching.observing import Observer

Result = TypeVar("Result")

MOST_CALLS, READING_THREADS, DOING_THREADS = 200, 8, 4
"""How many calls may wait and run at once, of those that only read and of those that do something."""
MOST_READ_AT_ONCE = 64 * 1024
"""Bytes: a larger body is read in a thread, and only of who is let in. Until it's read nobody else is answered."""
PARAMETERS = {
    "formula": "default_aggregation[formula]",
    "customer_key": "customer_mapping[event_payload_key]",
    "value_key": "value_settings[event_payload_key]",
    "dimension_keys": "dimension_payload_keys",
    "start": "start_time",
    "end": "end_time",
    "rules": "",
}
"""What the ledger's arguments are called over HTTP, where that is something else."""

_log = logging.getLogger("tallybook.server")


@dataclass(slots=True)
class Trace:
    """What is to be seen of a request from outside: the id of the key that let it in, and how many events it brings."""

    key: str = ""
    events: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came."""

    request_id: str
    path: str
    path_parameters: dict[str, str] = field(default_factory=dict[str, str])
    query: str = ""
    body: bytes = b""
    content_type: str = ""
    authorization: str = ""
    idempotency_key: str | None = None
    trace: Trace = field(default_factory=Trace)


class Service:
    """Answers requests. Those that record are recorded together; the others run in threads.

    Those that read have threads of their own: whoever asks for much that takes long is in nobody's way who cancels, or
    begins a session to record.
    """

    def __init__(self, desks: Desks, observer: Observer) -> None:
        self._desks = desks
        self._observer = observer
        self._reading = _Calls(READING_THREADS, "tallybook-reading")
        self._doing = _Calls(DOING_THREADS, "tallybook-doing")
        self._committers: dict[bool, Committer] = {}

    async def answer(self, operation: Operation, request: Request) -> Answer:
        """The answer to a request. Nothing is raised: what goes wrong is an answer too."""
        try:
            if operation.records:
                return await self._record(operation, request)
            calls = self._reading if operation.method == "GET" else self._doing
            return await calls.run(lambda: self._performed(operation, request))
        except Refusal as refusal:
            return refused(refusal, is_v2=operation.is_v2)
        except Exception as error:
            return refused(self._failure(error, request), is_v2=operation.is_v2)

    async def close(self) -> None:
        """Answer all that was taken, and end."""
        for committer in self._committers.values():
            await asyncio.to_thread(committer.close)
        for calls in (self._reading, self._doing):
            calls.close()

    def _performed(self, operation: Operation, request: Request) -> Answer:
        """Do what is asked, in a thread."""
        credentials = credentials_of(request.authorization)
        key = self._desks.gate.enter(credentials, operation.scope)
        request.trace.key = key.id
        check_key(request.idempotency_key)
        desk = self._desks.of(livemode=key.livemode)
        call = _call(desk, key, request, _read(operation, request))

        def work(was_begun: bool) -> Answer:
            call.was_begun = was_begun
            try:
                return done(operation.run(call))
            except TallybookError as error:
                raise self._refusal(error, request) from error

        if operation.method == "GET" or request.idempotency_key is None or operation.is_secret:
            return work(False)
        named = IdempotencyKey(key.id, request.idempotency_key, _fingerprint(operation, request))
        return desk.answers.once(named, request.request_id, microseconds(desk.now()), work)

    async def _record(self, operation: Operation, request: Request) -> Answer:
        """Let what is asked be recorded together with what others ask."""
        credentials = credentials_of(request.authorization)
        desk, committer = await self._committer(credentials)
        asked: Any = None
        wrong: Refusal | None = None
        try:
            check_key(request.idempotency_key)
            if len(request.body) <= MOST_READ_AT_ONCE:
                asked = _read(operation, request)
            else:
                asked = await self._doing.run(lambda: _read_if_let_in(desk, operation, request))
        except Refusal as refusal:  # which is told only to who is let in
            wrong = refusal

        def recording(key: AccessKeyView) -> Recording:
            request.trace.key = key.id
            if wrong is not None:
                raise wrong
            return operation.run(_call(desk, key, request, asked))

        request.trace.events = operation.size_of(asked)
        ticket = Ticket(
            credentials, operation.by_session, recording, request.idempotency_key, _fingerprint(operation, request),
            request.request_id, request.trace.events, operation.is_v2, asyncio.get_running_loop().create_future(),
        )  # fmt: skip
        return await committer.commit(ticket)

    async def _committer(self, credentials: str) -> tuple[Desk, Committer]:
        livemode = not is_for_tests(credentials)
        if livemode not in self._committers:
            desk = await asyncio.to_thread(self._desks.asked, credentials)
            if livemode not in self._committers:
                self._committers[livemode] = Committer(desk, self._observer)
        committer = self._committers[livemode]
        return committer.desk, committer

    def _refusal(self, error: TallybookError, request: Request) -> Refusal:
        refusal = refusal_of(error, PARAMETERS)
        if refusal.is_ours:
            _log.error("Request %s failed: %s: %s", request.request_id, error.code, error)
        return refusal

    def _failure(self, error: Exception, request: Request) -> Refusal:
        if isinstance(error, TallybookError):
            return self._refusal(error, request)
        _log.error("Request %s failed.", request.request_id, exc_info=error)
        return Refusal(500, "Something went wrong here, which is ours to mend.", kind="api_error")


class _Calls:
    """Calls that run in threads, of which only so many wait."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._count = 0

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` gives. Raises Refusal where too many wait."""
        if self._count >= MOST_CALLS:
            raise too_much("Too many requests are being answered. Try again later.", "global-concurrency")
        self._count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._count -= 1

    def close(self) -> None:
        """Wait for those that run."""
        self._threads.shutdown()


def _read(operation: Operation, request: Request) -> Any:
    """What a request asks. Raises Refusal."""
    if operation.method != "POST":
        return read_parameters(read_form(request.query), operation.takes, from_text=True)
    if request.query:
        raise invalid_parameter(
            request.query.partition("=")[0], "A POST takes no parameters in its URL.", "parameter_unknown"
        )
    media_type = request.content_type.partition(";")[0].strip().lower()
    if media_type == JSON or not request.body:
        return read_json(request.body, operation.takes)
    if media_type != FORM or operation.is_v2:
        raise Refusal(
            400, f"The body must be {JSON}{'' if operation.is_v2 else ' or ' + FORM}.", code="media_type_invalid"
        )
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        raise Refusal(400, "The body is not UTF-8.") from None
    return read_parameters(read_form(text), operation.takes, from_text=True)


def _read_if_let_in(desk: Desk, operation: Operation, request: Request) -> Any:
    """What a request to record asks, if who asks may record. Raises Refusal."""
    desk.enter(credentials_of(request.authorization), by_session=operation.by_session)
    return _read(operation, request)


def _call(desk: Desk, key: AccessKeyView, request: Request, asked: Any) -> Call[Any]:
    return Call(desk, asked, key, request.request_id, request.path_parameters, request.idempotency_key)


def _fingerprint(operation: Operation, request: Request) -> bytes:
    return fingerprint_of(operation.method, request.path, request.body)
