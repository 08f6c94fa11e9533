"""The pool of connections to one SQLite database."""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from eventsourcing.persistence import ConnectionUnavailableError
from eventsourcing.sqlite import SQLiteConnection, SQLiteConnectionPool, SQLiteCursor

from ....domain.errors import LedgerUnavailable
from ..forks import require_owner_process
from ..ports import LEDGER_CLOSED
from .database_files import OpenFiles, replaced_error
from .errors import translate_errors
from .fork_hooks import register_pool

ABANDONED_SECONDS = 0.25
"""How long a caller waits for a connection before it looks for abandoned ones."""


class DatabaseConnection(sqlite3.Connection):
    """A connection of the module `sqlite3` that can close the cursors of a transaction at its end.

    ROLLBACK does not end a SELECT whose rows have not all been read. As long as its cursor exists, for example in the
    traceback of an error, the connection would read the old state in all later transactions.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._cursors: list[sqlite3.Cursor] = []

    def open_cursor(self) -> sqlite3.Cursor:
        """Return a cursor for rows as tuples, until the end of the transaction."""
        cursor = self.cursor()
        cursor.row_factory = None
        self._cursors.append(cursor)
        return cursor

    def close_cursors(self) -> None:
        """Close the cursors of a transaction."""
        for cursor in self._cursors:
            cursor.close()
        self._cursors.clear()


class Connection(SQLiteConnection):
    """A connection to a file, or to a database in memory if `files` is None."""

    def __init__(
        self, connection: DatabaseConnection, database: str, files: OpenFiles | None, *, is_disposable: bool
    ) -> None:
        super().__init__(connection, max_age=None)
        self.database = database
        self.process_id = os.getpid()
        self._database_connection = connection
        self._files = files
        self._is_disposable = is_disposable
        self._open_cursor: sqlite3.Cursor | None = None

    @contextmanager
    def transaction(self, *, commit: bool) -> Generator[SQLiteCursor]:
        """Start a transaction. A write transaction takes the write lock at once, so that its reads stay valid."""
        with translate_errors(self.database):
            cursor = self._open_cursor = self._sqlite_conn.cursor()
            try:
                # Inside the block: an interrupt such as Ctrl-C is raised when a BEGIN that waits for a lock returns.
                cursor.execute("BEGIN IMMEDIATE" if commit else "BEGIN")
                yield SQLiteCursor(cursor)
                if commit:
                    require_owner_process(self.process_id)
                    self._sqlite_conn.commit()
                    self._require_current_files()
            finally:
                # After an interrupt, this may run late, when a traceback is deleted, and others use the connection.
                if self._open_cursor is cursor:
                    self.end_transaction()

    def end_transaction(self) -> None:
        """Roll back what is not committed, and close the cursors, if a transaction has not ended.

        A failed commit may leave it open, and so may an interrupt; the pool reuses the connection.
        """
        if self._open_cursor is not None and self.process_id == os.getpid():  # the block may have forked
            self._sqlite_conn.rollback()
            self._database_connection.close_cursors()
            self._open_cursor.close()
            self._open_cursor = None

    def find_replaced_file(self, *, for_writing: bool) -> str | None:
        """Return the path of an open file that was removed, renamed or replaced; None if there is none."""
        return None if self._files is None else self._files.find_replaced(for_writing=for_writing)

    def require_current_file(self) -> None:
        """Raise LedgerUnavailable if what was read may be of two states of the file: without a log, it may change."""
        replaced_path = self.find_replaced_file(for_writing=False)
        if replaced_path is not None:
            raise replaced_error(self.database, replaced_path)

    def _require_current_files(self) -> None:
        """Raise LedgerUnavailable, before events are acknowledged, if they were committed to a file without a path."""
        replaced_path = None if self._is_disposable else self.find_replaced_file(for_writing=True)
        if replaced_path is not None:
            raise replaced_error(self.database, replaced_path)

    @property
    def sqlite_connection(self) -> sqlite3.Connection:
        """Return the connection of the module `sqlite3`."""
        return self._sqlite_conn


class ConnectionPool(SQLiteConnectionPool):
    """A pool with one connection to write and several to read. It belongs to the process that created it.

    An interrupt, such as Ctrl-C, can be raised at any step of the library's pool (9.5.6), which then holds a lock, a
    slot or a connection for ever. So callers take turns to borrow, and a call that fails releases, before its turn
    ends, what was taken and is not lent. An interrupt between two steps of a borrower can leave a connection lent that
    no caller has any more: a caller who waits takes it back.
    """

    def __init__(
        self, database: str, connect: Callable[[], Connection], timeout_seconds: float, *, is_disposable: bool
    ) -> None:
        self.process_id = os.getpid()
        super().__init__(db_name=database, pool_timeout=timeout_seconds)
        self.is_disposable = is_disposable
        self._connect = connect
        self._turn = threading.RLock()  # unlike a semaphore it knows its owner, also after an interrupt
        self._get_semaphore = self._turn  # pyright: ignore[reportAttributeAccessIssue] - it is acquired and released
        self._lent: dict[int, Connection] = {}
        register_pool(self)

    @staticmethod
    def detect_memory_mode(db_name: str) -> bool:
        """Return whether the database is in memory: then its name is a URI. Files are absolute paths."""
        return db_name.startswith("file:")

    def get_connection(self, timeout: float | None = None, *, is_writer: bool | None = None) -> Connection:
        """Return a connection to read, or the only connection to write.

        Raise LedgerUnavailable if a file of a ledger was removed or replaced, and the library's
        ConnectionUnavailableError after the timeout. Connections to read models that were deleted are closed.
        """
        require_owner_process(self.process_id)
        deadline = time.monotonic() + (self.pool_timeout if timeout is None else timeout)
        try:
            if not self._turn.acquire(timeout=_seconds_until(deadline)):
                raise ConnectionUnavailableError("Timed out waiting for another caller")
            connection = self._borrow(deadline, is_writer)
            self._lent[id(connection)] = connection
        except BaseException:
            if _is_owned(self._turn):
                self._release_what_is_not_lent()
            raise
        else:
            return connection
        finally:
            for lock in (self._put_condition, self._no_readers, self._turn):
                while _is_owned(lock):
                    lock.release()

    def _borrow(self, deadline: float, is_writer: bool | None) -> Connection:
        """Return a connection to the current files."""
        while True:
            try:
                connection = super().get_connection(
                    min(_seconds_until(deadline), ABANDONED_SECONDS), is_writer=is_writer
                )
            except ConnectionUnavailableError:
                if not _seconds_until(deadline):
                    raise
                self._take_back_abandoned()
                continue
            assert isinstance(connection, Connection)
            replaced_path = connection.find_replaced_file(for_writing=is_writer is True)
            if replaced_path is None:
                return connection
            if not self.is_disposable:
                raise replaced_error(self.db_name, replaced_path)
            connection.close()  # the next connection opens or creates the file that the path leads to now
            self._release_what_is_not_lent()

    def _release_what_is_not_lent(self) -> None:
        """Release the locks, slots and connections of a call that has its turn and returns no connection."""
        with self._put_condition:
            for key, connection in list(self._in_use.items()):
                if key not in self._lent:
                    del self._in_use[key]
                    connection.in_use.acquire(blocking=False)
                    connection.in_use.release()
                    connection.is_writer = None
                    if self._closed:
                        connection.close()
                    elif not connection.closed and connection not in self._pool:
                        self._pool.append(connection)
            writing = [connection.is_writer for connection in self._lent.values()]
            self._num_writers, self._num_readers = writing.count(True), writing.count(False)
            if not self._num_writers and self._writer_lock.locked():
                self._writer_lock.release()
            self._put_condition.notify_all()

    def _take_back_abandoned(self) -> None:
        """Take back the connections that no caller refers to any more. The calling thread has its turn."""
        with self._put_condition:
            for key in list(self._lent):
                connection = self._lent[key]
                is_abandoned = _references_to(connection) == _references_to_a_pooled_object()
                if is_abandoned and key in self._in_use:
                    del self._lent[key]
                    connection.end_transaction()
            self._release_what_is_not_lent()

    def put_connection(self, conn: SQLiteConnection) -> None:
        """Return a connection to the pool, or close it if the pool is closed."""
        if self.process_id != os.getpid():
            return
        assert isinstance(conn, Connection)
        with self._put_condition:
            conn.end_transaction()  # it stays lent if this is interrupted
            self._lent.pop(id(conn), None)
            if not self._closed:
                super().put_connection(conn)
                return
            self._in_use.pop(id(conn), None)
            conn.close()
            self._release_slot(conn.is_writer)
            self._put_condition.notify_all()  # waiting callers raise an error

    def _release_slot(self, is_writer: bool | None) -> None:
        """Release the slot of a writer or a reader."""
        if is_writer:
            self._num_writers -= 1
            self._writer_lock.release()
        elif is_writer is False:
            with self._no_readers:
                self._num_readers -= 1
                if self._num_readers == 0:
                    self._no_readers.notify()

    def close(self) -> None:
        """Close all connections; those in use are closed when they are returned. In a forked process, close none.

        The library's pool (9.5.6) closes them at once, and SQLite crashes if a connection is closed while another
        thread executes a statement on it.
        """
        if self.process_id != os.getpid():
            return
        with self._put_condition:
            in_use, self._in_use = self._in_use, {}
            super().close()
            self._in_use = in_use

    def _get_connection(self, timeout: float = 0.0) -> SQLiteConnection:
        """Return a connection for a caller who has taken a slot; the library's pool calls this method after that.

        A connection is in use before it leaves the pool. A database in memory would end with its only connection.
        """
        with self._put_condition:
            if not self._put_condition.wait_for(lambda: self._pool or not self._is_use_full, timeout):
                raise ConnectionUnavailableError("Timed out waiting for return of connection")
            if self._pool:
                connection = self._pool[0]
                self._in_use[id(connection)] = connection
                connection.in_use.acquire()
                self._pool.popleft()
            else:
                connection = self._create_connection()
                self._in_use[id(connection)] = connection
            return connection

    def _create_connection(self) -> Connection:
        if self._closed:  # while the caller waited for a connection
            raise LedgerUnavailable(LEDGER_CLOSED)
        return self._connect()

    # --- for a fork -------------------------------------------------------------------------------

    def lock(self, timeout_seconds: float) -> bool:
        """Let no other thread borrow or return a connection. Return whether that was possible within the timeout."""
        return self._put_condition.acquire(timeout=timeout_seconds)

    def unlock(self) -> None:
        """Release the lock."""
        self._put_condition.release()

    def is_in_use(self) -> bool:
        """Return whether a thread uses a connection."""
        return bool(self._in_use)

    def close_idle_connections(self) -> None:
        """Close the connections to a file that are not in use. A database in memory ends with its connections."""
        while self._pool and not self.is_sqlite_memory_mode:
            self._pool.popleft().close()

    def open_connections(self) -> Sequence[sqlite3.Connection]:
        """Return the connections of the module `sqlite3` that are open."""
        connections = (*self._in_use.values(), *self._pool)
        return [connection.sqlite_connection for connection in connections if isinstance(connection, Connection)]


def _references_to(value: object) -> int:
    """Return the number of references to an object, with those of this call."""
    return sys.getrefcount(value)


def _references_to_a_pooled_object() -> int:
    """Return the number of references to an object that is in two dictionaries and a local variable, as counted here.

    They aren't the same number in all versions of Python.
    """
    value = object()
    lent, in_use = {0: value}, {0: value}
    references = _references_to(value)
    assert lent[0] is in_use[0]
    return references


def _is_owned(lock: Any) -> bool:
    """Return whether this thread has acquired a reentrant lock or a condition."""
    return bool(lock._is_owned())  # noqa: SLF001 - conditions call the same method of their locks


def _seconds_until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
