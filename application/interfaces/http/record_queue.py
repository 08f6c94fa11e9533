"""The requests that wait to be recorded: one queue for each caller, from which batches are taken in turn."""

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

MAX_BATCH_EVENTS = 2_000
MAX_QUEUED_EVENTS, MAX_QUEUED_EVENTS_PER_CALLER = 20_000, 5_000
"""The most events in one transaction, in all waiting requests, and in those of one caller."""


class QueuedRequest(Protocol):
    """A request of a caller with a number of events."""

    @property
    def caller(self) -> str:
        """The id of the access key, also if the request has a session token."""
        ...

    @property
    def event_count(self) -> int:
        """The number of its meter events."""
        ...


Request = TypeVar("Request", bound=QueuedRequest)


class QueueFull(Exception):
    """Too many events wait."""


class QueueClosed(Exception):
    """No more requests are recorded."""


class _CallerQueue(Generic[Request]):
    """The waiting requests of one caller, and the number of their events."""

    def __init__(self) -> None:
        self.requests: deque[Request] = deque()
        self.events = 0


class RecordQueue(Generic[Request]):
    """Waiting requests by caller. Requests are added in one thread and taken in another one.

    A batch takes one request of each caller in turn, so that the many requests of one caller don't delay those of
    others. A request of a caller that has none waiting is always admitted, and so is one without events.
    """

    def __init__(
        self,
        max_events: int = MAX_QUEUED_EVENTS,
        max_events_per_caller: int = MAX_QUEUED_EVENTS_PER_CALLER,
        max_batch_events: int = MAX_BATCH_EVENTS,
    ) -> None:
        self._max_events = max_events
        self._max_events_per_caller = max_events_per_caller
        self._max_batch_events = max_batch_events
        self._by_caller: OrderedDict[str, _CallerQueue[Request]] = OrderedDict()
        self._events = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, request: Request) -> None:
        """Add a request. Raises QueueFull or QueueClosed."""
        size = request.event_count
        with self._changed:
            if self._is_closed:
                raise QueueClosed
            waiting = self._by_caller.get(request.caller)
            if waiting is None:
                waiting = self._by_caller[request.caller] = _CallerQueue()
            elif size and self._is_full(waiting.events + size, self._events + size):
                raise QueueFull
            waiting.requests.append(request)
            waiting.events += size
            self._events += size
            self._changed.notify()

    def take_batch(self) -> Sequence[Request]:
        """Wait for a request and return the next batch; an empty one if the queue is closed and has no requests."""
        with self._changed:
            while not self._by_caller and not self._is_closed:
                self._changed.wait()
            batch: list[Request] = []
            events = 0
            while self._by_caller and events < self._max_batch_events:
                caller, waiting = self._by_caller.popitem(last=False)
                request = waiting.requests.popleft()
                batch.append(request)
                events += request.event_count
                waiting.events -= request.event_count
                if waiting.requests:
                    self._by_caller[caller] = waiting  # at the end: it is the turn of the others first
            self._events -= events
            return batch

    def close(self) -> None:
        """Return the remaining requests in batches, then empty ones; accept no others."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _is_full(self, events_of_caller: int, events: int) -> bool:
        return events_of_caller > self._max_events_per_caller or events > self._max_events
