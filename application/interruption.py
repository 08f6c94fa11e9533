"""Interruption of queries: at a deadline, or from another thread when no caller waits for the result any more."""

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Row = TypeVar("Row")

_ROWS_PER_CHECK = 50


class QueryInterrupted(Exception):
    """A query was stopped before it was finished. Nothing was changed by it, except that read models may be newer.

    It is no TallybookError, so that no handler takes it for an error of the ledger or of an event.
    """


class Interruption:
    """Stops the work of one thread at a deadline, or after `interrupt` was called from any thread."""

    def __init__(self, timeout_seconds: float | None = None) -> None:
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._is_interrupted = False

    def interrupt(self) -> None:
        """Stop the work at its next check."""
        self._is_interrupted = True

    def check(self) -> None:
        """Raise QueryInterrupted if the work has to stop."""
        if self._is_interrupted or (self._deadline is not None and time.monotonic() > self._deadline):
            raise QueryInterrupted


_current: ContextVar[Interruption | None] = ContextVar("tallybook_interruption", default=None)


@contextmanager
def interruptible(interruption: Interruption) -> Generator[None]:
    """Let `interruption` stop the queries of this thread inside the block."""
    token = _current.set(interruption)
    try:
        yield
    finally:
        _current.reset(token)


def check_interruption() -> None:
    """Raise QueryInterrupted if the queries of this thread have to stop. Called wherever a query may take long."""
    interruption = _current.get()
    if interruption is not None:
        interruption.check()


def check_between(rows: Iterable[Row]) -> Iterable[Row]:
    """Return the rows; while they are read, QueryInterrupted is raised if the queries of this thread have to stop."""
    interruption = _current.get()
    return rows if interruption is None else _checked(rows, interruption)


def _checked(rows: Iterable[Row], interruption: Interruption) -> Iterator[Row]:
    for index, row in enumerate(rows):
        if index % _ROWS_PER_CHECK == 0:
            interruption.check()
        yield row
