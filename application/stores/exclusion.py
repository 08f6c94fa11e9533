"""One at a time: what rebuilds read models excludes all others that would, also in other processes."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from ...domain.errors import LedgerUnavailable

_IN_MEMORY: dict[str, threading.Lock] = {}


@contextmanager
def exclusion(database: str, *, wait_seconds: float) -> Generator[bool]:
    """Hold the lock beside `database`; gives whether it could be had within `wait_seconds`.

    A lock on a file is let go by the operating system when its holder dies, however it dies. Raises
    LedgerUnavailable where there can be none: what is there is a folder, or can't be written.
    """
    if database.startswith("file:"):  # in memory: there are no other processes
        lock = _IN_MEMORY.setdefault(database, threading.Lock())
        held = lock.acquire(timeout=wait_seconds)
        try:
            yield held
        finally:
            if held:
                lock.release()
        return
    file_lock = FileLock(f"{database}.lock")
    try:
        file_lock.acquire(timeout=wait_seconds)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise LedgerUnavailable(
            f"The lock {file_lock.lock_file} can't be taken: {error.strerror or error}.", field="url", value=database
        ) from error
    try:
        yield True
    finally:
        file_lock.release()
