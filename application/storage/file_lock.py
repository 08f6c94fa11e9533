"""Locks between processes on lock files, and the description of the process that holds one."""

import errno
import os
import platform
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from ...domain.errors import LedgerUnavailable, RebuildInProgress
from .private_files import IS_SYMBOLIC_LINK, PRIVATE_MODE

GENERATION_LOCK_TIMEOUT_SECONDS = 2


def describe_owner(activity: str) -> str:
    """Return a description of this process and its activity."""
    return f"process {os.getpid()} on {platform.node()} is {activity}, since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def lock_timeout_error(owner: str | None) -> RebuildInProgress:
    """Return the error for a process that does not get the lock; `owner` is None if the owner is not stored yet."""
    owner_description = "another process has just started" if owner is None else owner
    return RebuildInProgress(
        f"Only one process may work on generations at a time: {owner_description}. Try again later."
    )


_MEMORY_LOCKS: dict[str, threading.Lock] = {}


@contextmanager
def file_lock(path: str, *, timeout_seconds: float, mode: int = PRIVATE_MODE) -> Generator[bool]:
    """Hold the lock file `path`.lock. Yield whether it was free within `timeout_seconds`.

    The operating system releases the lock when the process ends. A path that starts with `file:` is a database in
    memory, which only threads share. A new lock file has the mode `mode`. Raise LedgerUnavailable if it cannot be
    created, or if it is a symbolic link.
    """
    if path.startswith("file:"):
        memory_lock = _MEMORY_LOCKS.setdefault(path, threading.Lock())
        is_locked = memory_lock.acquire(timeout=timeout_seconds)
        try:
            yield is_locked
        finally:
            if is_locked:
                memory_lock.release()
        return
    lock_file = FileLock(f"{path}.lock", mode=mode)
    try:
        lock_file.acquire(timeout=timeout_seconds)
    except Timeout:
        yield False
        return
    except OSError as error:
        reason = IS_SYMBOLIC_LINK if error.errno == errno.ELOOP else error.strerror or error
        raise LedgerUnavailable(
            f"The lock file {lock_file.lock_file} cannot be created: {reason}.",
            field="url",
            value=path,
        ) from error
    try:
        yield True
    finally:
        lock_file.release()
