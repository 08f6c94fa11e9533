"""Group commit: requests that arrive together are recorded in one transaction, each answered once it is durable."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import NamedTuple

from ...domain.errors import TallybookError
from ...domain.instants import microseconds
from ...domain.report import Report
from ..access_views import AccessKeyView
from ..results import Receipt
from ..stores.kept import AlreadyKept, KeptRow
from .answers import Answer, done, refused
from .desk import Desk
from .idempotency import IdempotencyKey
from .refusals import UNAVAILABLE, Refusal, refusal_of, too_much
from .watching.observing import Observer

MOST_AT_ONCE = 5_000
MOST_WAITING = 20_000
"""Events: in one transaction, and in all requests that wait for theirs."""

_log = logging.getLogger("tallybook.server")


class Recorded(NamedTuple):
    """What is answered to a request once its events are durable, and what is kept with them."""

    body: object
    kept: Sequence[KeptRow] = ()


class Recording(NamedTuple):
    """What a request wants recorded, and how it is answered. `answer` may raise Refusal."""

    reports: Sequence[Report]
    answer: Callable[[Sequence[Receipt], datetime], Recorded]


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that waits for its turn."""

    credentials: str
    by_session: bool
    recording: Callable[[AccessKeyView], Recording]
    """What it wants, once it is let in. Raises Refusal."""
    key: str | None
    fingerprint: bytes
    request_id: str
    size: int
    is_v2: bool
    future: "asyncio.Future[Answer]"
    wants: Recording | None = None
    idempotency: IdempotencyKey | None = None
    answer: Answer | None = None

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal."""
        self.answer = refused(refusal, is_v2=self.is_v2)


class Committer:
    """Records what requests want, all that wait in one transaction, in a thread of its own."""

    def __init__(self, desk: Desk, observer: Observer) -> None:
        self.desk = desk
        self._observer = observer
        self._queue: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="tallybook-committer")
        self._thread.start()

    async def commit(self, ticket: Ticket) -> Answer:
        """The answer to a request, once what it says is durable. Raises Refusal where too many wait."""
        if self._waiting + ticket.size > MOST_WAITING:
            raise too_much("Too many meter events wait to be recorded. Try again later.", "global-concurrency")
        self._waiting += ticket.size
        self._observer.waiting(ticket.size)
        self._queue.put(ticket)
        try:
            return await ticket.future
        finally:
            self._waiting -= ticket.size
            self._observer.waiting(-ticket.size)

    def close(self) -> None:
        """Record what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            tickets, is_last = self._taken()
            if tickets:
                self._work(tickets)
                self._loop.call_soon_threadsafe(_deliver, tickets)
            if is_last:
                return

    def _taken(self) -> tuple[list[Ticket], bool]:
        """All that wait, up to so many events; the first one is waited for. And whether it is the end."""
        ticket = self._queue.get()
        tickets: list[Ticket] = []
        size = 0
        while ticket is not None:
            tickets.append(ticket)
            size += ticket.size
            if size >= MOST_AT_ONCE:
                return tickets, False
            try:
                ticket = self._queue.get_nowait()
            except queue.Empty:
                return tickets, False
        return tickets, True

    def _work(self, tickets: Sequence[Ticket]) -> None:
        try:
            self._commit(tickets)
        except Exception as error:
            waiting = _unanswered(tickets)
            refusal = _failed(error)
            if refusal.status == UNAVAILABLE or len(waiting) == 1:
                _log.error("Recording failed, %d requests: %s", len(waiting), error, exc_info=_unexpected(error))
                for ticket in waiting:
                    ticket.refuse(refusal)
            else:  # one of them does it: the others shall not suffer for that
                for ticket in waiting:
                    self._work([ticket])

    def _commit(self, tickets: Sequence[Ticket]) -> None:
        self._let_in(tickets)
        while waiting := _unanswered(tickets):
            self._answer_again(waiting)
            turn = _one_of_each_key(_unanswered(waiting))
            with suppress(AlreadyKept):  # another process has answered one of them meanwhile
                self._record(turn)

    def _let_in(self, tickets: Sequence[Ticket]) -> None:
        """Let in who may record at this moment; each key and session is asked for once."""
        keys: dict[tuple[str, bool], AccessKeyView | Refusal] = {}
        for ticket in tickets:
            if ticket.wants is None:
                said = ticket.credentials, ticket.by_session
                if said not in keys:
                    keys[said] = self._entered(*said)
                self._open(ticket, keys[said])

    def _entered(self, credentials: str, by_session: bool) -> AccessKeyView | Refusal:
        try:
            return self.desk.enter(credentials, by_session=by_session)
        except Refusal as refusal:
            return refusal

    def _open(self, ticket: Ticket, key: AccessKeyView | Refusal) -> None:
        if isinstance(key, Refusal):
            ticket.refuse(key)
            return
        try:
            ticket.wants = ticket.recording(key)
        except Refusal as refusal:
            ticket.refuse(refusal)
            return
        if ticket.key is not None:
            ticket.idempotency = IdempotencyKey(key.id, ticket.key, ticket.fingerprint)

    def _answer_again(self, tickets: Sequence[Ticket]) -> None:
        """Answer those that were answered before."""
        keyed = [(ticket, ticket.idempotency) for ticket in tickets if ticket.idempotency is not None]
        found = self.desk.answers.find([key for _, key in keyed]) if keyed else {}
        for ticket, key in keyed:
            answer = found.get(key.place)
            if isinstance(answer, Refusal):
                ticket.refuse(answer)
            else:
                ticket.answer = answer

    def _record(self, tickets: Sequence[Ticket]) -> None:
        if not tickets:
            return

        def beside(receipts: Sequence[Receipt], at: datetime) -> list[KeptRow]:
            kept: list[KeptRow] = []
            start = 0
            for ticket in tickets:
                end = start + ticket.size
                kept += self._settled(ticket, receipts[start:end], at)
                start = end
            return kept

        began = perf_counter()
        wanted = [ticket.wants for ticket in tickets if ticket.wants is not None]
        try:
            receipts = self.desk.metering.record_beside([report for one in wanted for report in one.reports], beside)
        except BaseException:
            for ticket in tickets:  # nothing is durable: what was to be answered isn't so
                ticket.answer = None
            raise
        self._observer.committed(receipts, perf_counter() - began)

    def _settled(self, ticket: Ticket, receipts: Sequence[Receipt], at: datetime) -> Sequence[KeptRow]:
        """What is kept with a request's events; its answer goes out once they are durable."""
        assert ticket.wants is not None
        try:
            recorded = ticket.wants.answer(receipts, at)
        except Refusal as refusal:
            ticket.refuse(refusal)
            return ()
        ticket.answer = done(recorded.body)
        if ticket.idempotency is None:
            return recorded.kept
        row = self.desk.answers.row(ticket.idempotency, ticket.answer, ticket.request_id, microseconds(at))
        return (*recorded.kept, row)


def _failed(error: Exception) -> Refusal:
    if isinstance(error, TallybookError):
        return refusal_of(error, {})
    return Refusal(500, "Something went wrong here; nothing was recorded.", kind="api_error")


def _unexpected(error: Exception) -> Exception | None:
    return None if isinstance(error, TallybookError) else error


def _unanswered(tickets: Sequence[Ticket]) -> list[Ticket]:
    return [ticket for ticket in tickets if ticket.answer is None]


def _one_of_each_key(tickets: Sequence[Ticket]) -> list[Ticket]:
    """Those that can be recorded at once: of requests with one key the first, as it answers the others."""
    places: set[str] = set()
    chosen: list[Ticket] = []
    for ticket in tickets:
        place = ticket.idempotency.place if ticket.idempotency else None
        if place is None or place not in places:
            chosen.append(ticket)
            places |= {place} if place else set()
    return chosen


def _deliver(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        if not ticket.future.done():
            assert ticket.answer is not None
            ticket.future.set_result(ticket.answer)
