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

_MORE_AHEAD = 2
"""Beside one page for each worker, the next one for who is first, and one for this process."""
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
        ahead = following[: self._number + _MORE_AHEAD]
        for other in self._begun.keys() - set(ahead):
            self._begun.pop(other).cancel()
        for other in ahead:
            if other not in self._begun:
                self._begun[other] = workers.submit(partial(job, other, workers.call))
        try:
            return None if begun is None or begun.cancel() else self._once_done(begun, job)
        except WorkerLost as lost:
            workers.lost(lost)
            return None

    def _once_done(self, begun: Future[Told], job: Callable[[Span, Call], Told]) -> Told:
        """What is told in the end. Meanwhile this process does its share of what follows, from the far end on."""
        for other, waiting in reversed(self._begun.items()):
            if begun.done():
                break
            if waiting.cancel():
                done = self._begun[other] = Future()
                done.set_result(job(other, directly))
        return begun.result()


def directly(function: Callable[..., bytes], *arguments: object) -> bytes:
    """Call a function in this process."""
    return function(*arguments)
