"""Group commit: threads that record at the same moment share one transaction."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from ...domain.errors import DatabasePermissionDenied, LedgerUnavailable, Unavailable
from ..results import Receipt
from ..storage.ports import RowRejected

MAX_GROUP_EVENTS = 500


class _Request:
    """A meter event of a waiting thread, and then its receipt or the error of its transaction."""

    def __init__(self, meter_event: object) -> None:
        self.meter_event = meter_event
        self.receipt: Receipt | None = None
        self.error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        """Whether the event was recorded or rejected, or its transaction failed."""
        return self.receipt is not None or self.error is not None


class GroupCommit:
    """Records the meter events of several threads, each as soon as possible.

    A thread that finds no other one recording records its own event at once. Events that arrive meanwhile wait, and the
    next thread records all of them in one transaction. So a single thread waits for nothing, and the more threads
    there are, the fewer transactions each event takes.
    """

    def __init__(self, record_many: Callable[[Sequence[object]], Sequence[Receipt]]) -> None:
        self._record_many = record_many
        self._waiting: deque[_Request] = deque()
        self._recording_thread: int | None = None
        self._changed = threading.Condition()

    @property
    def waiting_count(self) -> int:
        """The number of events that wait for the next transaction."""
        return len(self._waiting)

    def record(self, meter_event: object) -> Receipt:
        """Record a meter event. Raise the error of its transaction, if it failed."""
        if self._recording_thread == threading.get_ident():  # a signal handler: waiting would never end
            (receipt,) = self._record_many((meter_event,))
            return receipt
        request = _Request(meter_event)
        with self._changed:
            self._waiting.append(request)
        while (group := self._next_group(request)) is not None:
            try:
                self._commit(group)
            finally:
                self._end(group)
        if request.error is not None:
            raise request.error
        assert request.receipt is not None
        return request.receipt

    def _next_group(self, request: _Request) -> Sequence[_Request] | None:
        """Wait until the request is done, and return None, or until this thread has to record the returned group."""
        with self._changed:
            try:
                while self._recording_thread is not None and not request.is_done:
                    self._changed.wait()
            except BaseException:  # the thread is interrupted: no one waits for the receipt
                if request in self._waiting:
                    self._waiting.remove(request)
                raise
            if request.is_done:
                return None
            self._recording_thread = threading.get_ident()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_GROUP_EVENTS))]

    def _commit(self, group: Sequence[_Request]) -> None:
        try:
            receipts = self._record_many([request.meter_event for request in group])
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

    def _end(self, group: Sequence[_Request]) -> None:
        """Let the next thread record, after all events of the group are done, or this thread was interrupted."""
        with self._changed:
            for request in group:
                if not request.is_done:
                    request.error = LedgerUnavailable(
                        "The thread that was recording this meter event with those of others was interrupted; it may "
                        "be recorded. Record it again under the same identifier."
                    )
            self._recording_thread = None
            self._changed.notify_all()


def may_be_caused_by_one(error: Exception) -> bool:
    """Return whether one event may cause an error of a transaction, so that each has to be recorded separately.

    An unavailable database and a missing privilege concern all events. A row that the database rejects does not.
    """
    return not isinstance(error, Unavailable | DatabasePermissionDenied) or isinstance(error, RowRejected)
