"""Pages that worker processes make something of, ahead of who goes through them."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

from .rows import LedgerPages
from .workers import WorkerLost, Workers, usable

Told = TypeVar("Told")
Span = tuple[int, int]
"""The position that a page comes after, and the one that it ends at."""
Call = Callable[..., bytes]
"""Calls a function with arguments, in this process or another. Raises WorkerLost."""

_AHEAD = 3
"""So many pages for each process are begun at most before the first of them is taken."""
APART_FROM = 250_000
"""Events from which on it is worth it to begin other processes."""


class PagesElsewhere(Generic[Told]):
    """What was told of pages by workers, and by this process while it waits for them.

    There are no workers where there are few `events` in all, or one core, or the ledger isn't read beside who writes;
    until they have begun; and after one was lost.
    """

    def __init__(self, ledger: LedgerPages, events: int) -> None:
        self._closing = ExitStack()
        self._number = usable() if events >= APART_FROM and ledger.is_read_beside else 0
        self._workers: Workers | None = None
        self._begun: dict[Span, Future[Told]] = {}

    def __enter__(self) -> "PagesElsewhere[Told]":
        if self._number:
            self._workers = self._closing.enter_context(Workers(self._number))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def has_after(self, position: int) -> bool:
        """Whether the page after a position was begun."""
        return any(after == position for after, _ in self._begun)

    def told(self, span: Span, following: Sequence[Span], job: Callable[[Span, Call], Told]) -> Told | None:
        """What `job` tells of a page; None if it is yet to be begun. Pages that follow are begun, others let go of."""
        begun, workers = self._begun.pop(span, None), self._workers
        if workers is None or not workers.are_ready:
            return None
        following = following[: _AHEAD * (self._number + 1)]
        for other in self._begun.keys() - set(following):
            self._begun.pop(other).cancel()
        try:
            self._begin(following, job, workers)
            if begun is None or begun.cancel():
                return None
            while not begun.done() and (own := self._first_to_begin(following)) is not None:
                self._begun[own] = Future()  # a share for this process, while it waits
                self._begun[own].set_result(job(own, directly))
                self._begin(following, job, workers)
            return begun.result()
        except WorkerLost as lost:
            workers.lost(lost)
            return None

    def _begin(self, following: Sequence[Span], job: Callable[[Span, Call], Told], workers: Workers) -> None:
        """Begin as many pages as keep the workers busy, and one more."""
        waiting = sum(not begun.done() for begun in self._begun.values())
        while waiting <= self._number and (span := self._first_to_begin(following)) is not None:
            self._begun[span] = workers.submit(partial(job, span, workers.call))
            waiting += 1

    def _first_to_begin(self, following: Sequence[Span]) -> Span | None:
        return next((span for span in following if span not in self._begun), None)


def directly(function: Callable[..., bytes], *arguments: object) -> bytes:
    """Call a function in this process."""
    return function(*arguments)
