"""Pages that worker processes make something of, ahead of who goes through them."""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

from .rows import LedgerPages, StoredPage
from .workers import WorkerLost, usable, workers

Told = TypeVar("Told")
Span = tuple[int, int]
"""The position that a page comes after, and the one that it ends at."""
Call = Callable[..., bytes]
"""Calls a function with arguments, in this process or another. Raises WorkerLost."""
Job = Callable[[Span, StoredPage, Call], Told]
"""Tells something of a page, and lets `Call` do what is costly."""

APART_FROM = 250_000
"""Events from which on it is worth it to begin other processes."""
_FETCHED_AT_ONCE = 2
_SPARE = 4
"""So many pages more than there are workers are being fetched or wait to be told of."""
_AHEAD = 3
"""So many pages for each process are begun at most before the first of them is taken."""


class PagesElsewhere(Generic[Told]):
    """What is told of pages by workers, and by this process while it waits for them.

    Nothing is where there are few `events` in all, or one core, or the ledger isn't read beside who writes; nor after a
    worker was lost.
    """

    def __init__(self, ledger: LedgerPages, events: int) -> None:
        self._ledger = ledger
        self._closing = ExitStack()
        self._number = usable() if events >= APART_FROM and ledger.is_read_beside else 0
        self._begun: dict[Span, _Begun[Told]] = {}

    def __enter__(self) -> "PagesElsewhere[Told]":
        if self._number:
            self._fetching = self._closing.enter_context(ThreadPoolExecutor(_FETCHED_AT_ONCE))
            self._workers = self._closing.enter_context(workers(self._number))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()
        self._closing.close()

    @property
    def are_there(self) -> bool:
        """Whether anything is told of the next page."""
        return self._number > 0

    def told(self, span: Span, following: Sequence[Span], job: Job[Told]) -> Told | None:
        """What `job` tells of a page, if anything is. Pages that follow are begun, others let go of."""
        if not self._number:
            return None
        wanted = (span, *following[: _AHEAD * (self._number + 1)])
        for other in self._begun.keys() - set(wanted):
            self._begun.pop(other).let_go()
        try:
            self._begin(wanted, job)
            begun = self._begun[span]
            while not begun.told.done() and self._do_a_share(job):
                self._begin(wanted, job)
            return self._begun.pop(span).told.result()
        except (CancelledError, WorkerLost) as lost:
            self._workers.lost(WorkerLost(str(lost)))
            self.let_go()
            self._number = 0
            return None

    def let_go(self) -> None:
        """Tell of all pages anew, those too that were begun."""
        for begun in self._begun.values():
            begun.let_go()
        self._begun.clear()

    def _begin(self, wanted: Sequence[Span], job: Job[Told]) -> None:
        """Begin as many pages as keep everyone busy, in their order."""
        waiting = sum(not begun.told.done() for begun in self._begun.values())
        for span in wanted:
            if span not in self._begun and (span == wanted[0] or waiting <= self._number + _SPARE):
                self._begun[span] = self._begun_with(span, job)
                waiting += 1

    def _begun_with(self, span: Span, job: Job[Told]) -> "_Begun[Told]":
        try:
            fetched = self._fetching.submit(self._ledger.page_at_once, span[0], span[1] - span[0])
        except RuntimeError as error:  # no thread is to be had, as after the program's main thread has ended
            raise WorkerLost(str(error)) from error
        return _Begun(fetched, self._workers.submit(partial(_told_elsewhere, job, span, fetched, self._workers.call)))

    def _do_a_share(self, job: Job[Told]) -> bool:
        """Let this process, which waits, do the first page that nobody was given yet; tell whether there is one."""
        for span, begun in list(self._begun.items()):
            if begun.told.cancel():
                done: Future[Told] = Future()
                self._begun[span] = _Begun(begun.fetched, done)
                try:
                    done.set_result(job(span, begun.fetched.result(), directly))
                except Exception as error:  # it is told when it is this page's turn
                    done.set_exception(error)
                return True
        return False


class _Begun(NamedTuple, Generic[Told]):
    """A page that is fetched, and then told of."""

    fetched: Future[StoredPage]
    told: Future[Told]

    def let_go(self) -> None:
        """Nobody asks for it any more."""
        self.fetched.cancel()
        self.told.cancel()


def _told_elsewhere(job: Job[Told], span: Span, fetched: Future[StoredPage], call: Call) -> Told:
    return job(span, fetched.result(), call)


def directly(function: Callable[..., bytes], *arguments: object) -> bytes:
    """Call a function in this process."""
    return function(*arguments)
