"""What happens to open SQLite databases when the process forks.

A child process inherits what SQLite knows about the locks of its parent, but not the locks. If the child opens the same
file, SQLite takes no lock for it, and the parent removes the write-ahead log that the child is writing to as soon as it
closes the file. Events that the child has recorded would be lost. See https://sqlite.org/howtocorrupt.html, 2.7.

Therefore a fork closes the idle connections first; the parent opens new ones when it needs them. If a connection was in
use, the child cannot open the file. A child never uses or closes an inherited connection.
"""

import ctypes
import os
import threading
import time
from collections.abc import Sequence
from typing import Protocol
from weakref import WeakSet

from .database_files import FileIdentity, file_identity
from .errors import unavailable

WAIT_SECONDS = 1.0
"""How long a fork waits until no connection is in use."""
_POLL_INTERVAL_SECONDS = 0.001


class ForkedPool(Protocol):
    """A pool of connections to one database."""

    db_name: str
    process_id: int

    def lock(self, timeout_seconds: float) -> bool:
        """Let no other thread borrow or return a connection. Return whether that was possible within the timeout."""
        ...

    def unlock(self) -> None:
        """Release the lock."""
        ...

    def close_idle_connections(self) -> None:
        """Close the connections to a file that are not in use."""
        ...

    def is_in_use(self) -> bool:
        """Return whether a thread uses a connection."""
        ...

    def open_connections(self) -> Sequence[object]:
        """Return the connections of the module `sqlite3` that are open."""
        ...


class _ForkHooks:
    """Prepares the pools of this process for a fork, and remembers the files that a child cannot open."""

    def __init__(self) -> None:
        self._pools: WeakSet[ForkedPool] = WeakSet()
        self._lock = threading.Lock()
        self._locked_pools: list[ForkedPool] = []
        self._has_prepared = False
        self._unusable_files: set[FileIdentity] = set()

    def add(self, pool: ForkedPool) -> None:
        """Add a pool of this process."""
        with self._lock:
            self._pools.add(pool)

    def require_usable(self, database: str) -> None:
        """Raise LedgerUnavailable if a connection to the file was in use when this process was forked."""
        if self._unusable_files and file_identity(database) in self._unusable_files:
            raise unavailable(
                database,
                "the parent process was using the ledger at the moment when it forked this process, and SQLite cannot "
                "open the file here. Fork before the ledger is used, or start the process without a fork "
                "(multiprocessing: 'spawn').",
            )

    def before_fork(self) -> None:
        """Lock all pools while none is in use, and close their connections."""
        self._lock.acquire()
        pools = [pool for pool in self._pools if pool.process_id == os.getpid()]
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            self._locked_pools = [pool for pool in pools if pool.lock(max(deadline - time.monotonic(), 0))]
            is_idle = len(self._locked_pools) == len(pools) and not any(pool.is_in_use() for pool in pools)
            if is_idle or time.monotonic() > deadline:
                break
            self._unlock_pools()  # a thread may need a second pool to finish its work with the first one
            time.sleep(_POLL_INTERVAL_SECONDS)
        for pool in self._locked_pools:
            pool.close_idle_connections()
        self._has_prepared = True

    def after_fork_in_parent(self) -> None:
        """Unlock the pools."""
        self._unlock_pools()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Abandon all connections. Programs that fork without Python, like uWSGI, call only this hook."""
        self._lock = threading.Lock()
        for pool in [pool for pool in self._pools if pool.process_id != os.getpid()]:
            connections = pool.open_connections()
            for connection in connections:
                _never_deallocate(connection)
            identity = file_identity(pool.db_name)
            if identity is not None and (connections or (self._has_prepared and pool not in self._locked_pools)):
                self._unusable_files.add(identity)
        self._unlock_pools()
        self._pools = WeakSet()  # children of this process inherit the set of unusable files

    def _unlock_pools(self) -> None:
        for pool in self._locked_pools:
            pool.unlock()
        self._locked_pools, self._has_prepared = [], False


def _never_deallocate(connection: object) -> None:
    """Hold a connection until the process ends, because Python would close it, also when the interpreter exits."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


_hooks = _ForkHooks()
register_pool, require_usable_after_fork = _hooks.add, _hooks.require_usable
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hooks.before_fork,
        after_in_parent=_hooks.after_fork_in_parent,
        after_in_child=_hooks.after_fork_in_child,
    )
