"""Group commit: threads that record at the same moment share one transaction."""

import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from ...domain.authorship import Author, current_author
from ...domain.errors import DatabasePermissionDenied, LedgerUnavailable, Unavailable
from ..results import Receipt
from ..storage.ports import RowRejected

MAX_GROUP_EVENTS = 500
POLL_SECONDS = 0.05
"""How long a waiting thread sleeps at most: a thread that is interrupted may fail to wake the others."""


class RecordMany(Protocol):
    """Records meter events in one transaction, each with its author; None is the author of the current thread."""

    def __call__(self, meter_events: Sequence[object], *, authors: Sequence[Author | None] | None) -> Sequence[Receipt]:
        """Return a receipt for each meter event."""
        ...


class _Request:
    """A meter event of a waiting thread with its author, and then its receipt or the error of its transaction."""

    def __init__(self, meter_event: object) -> None:
        self.meter_event = meter_event
        self.thread = threading.get_ident()
        self.process = os.getpid()
        self.author = current_author()
        self.receipt: Receipt | None = None
        self.error: BaseException | None = None
        self.is_withdrawn = False
        self._asleep = threading.Lock()
        self._asleep.acquire()

    @property
    def is_done(self) -> bool:
        """Whether the event was recorded or rejected, or its transaction failed."""
        return self.receipt is not None or self.error is not None

    def sleep(self) -> None:
        """Wait until another thread wakes this one, POLL_SECONDS at most."""
        self._asleep.acquire(timeout=POLL_SECONDS)

    def wake(self) -> None:
        """Wake the thread of this event."""
        with suppress(RuntimeError):  # it is awake
            self._asleep.release()


class GroupCommit:
    """Records the meter events of several threads, each as soon as possible.

    A thread that finds no other one recording records its own event at once. Events that arrive meanwhile wait, and the
    next thread records all of them in one transaction. So a single thread waits for nothing, and the more threads
    there are, the fewer transactions each event takes.

    The thread that records is the leader. One dictionary operation, which is atomic, makes a request the leader's and
    says whose it is. A lock doesn't: a thread that KeyboardInterrupt ends directly after acquiring it can't know.
    """

    def __init__(self, record_many: RecordMany) -> None:
        self._record_many = record_many
        self._waiting: deque[_Request] = deque()
        self._leader: dict[None, _Request] = {}

    @property
    def waiting_count(self) -> int:
        """The number of events that wait for the next transaction, and of those that interrupted threads withdrew."""
        return len(self._waiting)

    def record(self, meter_event: object) -> Receipt:
        """Record a meter event. Raise the error of its transaction, if it failed."""
        request = _Request(meter_event)
        leader = self._leader.get(None)
        if leader is not None and (leader.thread, leader.process) == (request.thread, request.process):
            # this is a signal handler, in the middle of a transaction
            (receipt,) = self._record_many((meter_event,), authors=None)
            return receipt
        self._waiting.append(request)
        try:
            while not request.is_done:
                self._lead_or_sleep(request)
        finally:
            request.is_withdrawn = True  # if this thread was interrupted before the event was recorded
            if self._leader.get(None) is request:  # or directly after it became the leader
                self._leader.pop(None)
        if request.error is not None:
            raise request.error
        assert request.receipt is not None
        return request.receipt

    def _lead_or_sleep(self, request: _Request) -> None:
        leader = self._leader.setdefault(None, request)
        if leader is request:
            try:
                while not request.is_done:
                    self._commit_next_group()
            finally:
                self._leader.pop(None)
            with suppress(IndexError):  # no other event waits
                self._waiting[0].wake()
        elif leader.process == request.process:
            request.sleep()
        else:  # this process was forked while a thread was recording, which doesn't exist here
            self._leader.pop(None, None)

    def _commit_next_group(self) -> None:
        group: list[_Request] = []
        try:
            while self._waiting and len(group) < MAX_GROUP_EVENTS:
                if not self._waiting[0].is_withdrawn:
                    group.append(self._waiting[0])
                self._waiting.popleft()  # last, so that an interrupt here loses no event
            self._commit(group)
        finally:
            for request in group:
                if not request.is_done:
                    request.error = LedgerUnavailable(
                        "The thread that was recording this meter event with those of others was interrupted; it may "
                        "be recorded. Record it again under the same identifier."
                    )
                request.wake()

    def _commit(self, group: Sequence[_Request]) -> None:
        try:
            authors = [request.author for request in group]
            receipts = self._record_many([request.meter_event for request in group], authors=authors)
        except Exception as error:
            if len(group) == 1 or not may_be_caused_by_one(error):
                for request in group:
                    request.error = error
                return
            for request in group:
                self._commit([request])
            return
        for request, receipt in zip(group, receipts, strict=True):
            request.receipt = receipt


def may_be_caused_by_one(error: Exception) -> bool:
    """Return whether one event may cause an error of a transaction, so that each has to be recorded separately.

    An unavailable database and a missing privilege concern all events. A row that the database rejects does not.
    """
    return not isinstance(error, Unavailable | DatabasePermissionDenied) or isinstance(error, RowRejected)
