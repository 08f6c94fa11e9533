"""Work that a program does while its database inserts events, so that both compute at the same time."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

_work: ContextVar[Callable[[], None] | None] = ContextVar("tallybook_overlapped_work", default=None)


@contextmanager
def overlapped_work(work: Callable[[], None]) -> Generator[None]:
    """Let the store call `work` in the block, at most once, while the database inserts events.

    SQLite doesn't call it: it inserts in this process. On PostgreSQL, a transaction that excludes other writers is open
    meanwhile. So `work` must only compute, for no longer than an insert takes, and not wait for anything, least of all
    for another connection: all may be in use by those who wait for the transaction.
    """
    token = _work.set(work)
    try:
        yield
    finally:
        _work.reset(token)


def take_overlapped_work() -> Callable[[], None] | None:
    """Return the work to do while the next statement is executed, the first time; None if there is none."""
    work = _work.get()
    if work is not None:
        _work.set(None)
    return work
