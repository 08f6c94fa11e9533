"""SQLite connections as this project needs them: durable, and write-locked from the start of what writes."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from eventsourcing.persistence import ConnectionPoolClosedError, ConnectionUnavailableError, IntegrityError
from eventsourcing.sqlite import SQLiteConnection, SQLiteConnectionPool, SQLiteCursor, SQLiteDatastore

from ...domain.errors import LedgerUnavailable, TallybookError
from .sqlite_errors import LOCK_TIMEOUT_SECONDS, translated
from .sqlite_schema import Schema
from .store import CLOSED, MADE_ANEW

CACHE_KIBIBYTES = 16 * 1024
CHECKPOINT_PAGES = 8_000
SYNCHRONOUS = {"NORMAL": 1, "FULL": 2}


class Datastore(SQLiteDatastore):
    """One SQLite database: a file, or one in memory by a name of its own.

    Its tables are looked for, and made if there are none, by each new connection: the file may have been deleted.
    What is disposable loses nothing by that.
    """

    def __init__(self, database: str, schema: Schema, *, synchronous: str) -> None:
        super().__init__(database, originator_id_type="text")
        self.is_disposable = schema.is_disposable
        self.pool = _Pool(database, schema, synchronous)

    @contextmanager
    def get_connection(self, *, commit: bool) -> Generator[SQLiteConnection]:
        """A connection of the pool, for a transaction. Raises LedgerUnavailable where there is none to be had."""
        try:
            with super().get_connection(commit=commit) as connection:
                yield connection
        except IntegrityError as error:
            if not self.is_disposable:
                raise
            raise LedgerUnavailable(f"The read models are damaged: {error}. {MADE_ANEW}") from error
        except ConnectionPoolClosedError as error:
            raise LedgerUnavailable(CLOSED) from error
        except ConnectionUnavailableError as error:
            raise LedgerUnavailable(
                f"No connection to the ledger came free within {LOCK_TIMEOUT_SECONDS} seconds; try again."
            ) from error

    @contextmanager
    def statements(self) -> Generator[sqlite3.Cursor]:
        """Read by statements, each of which is a transaction by itself; rows are tuples.

        To begin and to end one for all takes a thread, beside one that computes, up to 5 ms for each time that it has
        to wait for the interpreter's lock.
        """
        with (
            self.get_connection(commit=False) as connection,
            translated(self.pool.db_name),
            connection.cursor() as cursor,
        ):
            cursor.row_factory = None
            yield cursor


class _Pool(SQLiteConnectionPool):
    def __init__(self, database: str, schema: Schema, synchronous: str) -> None:
        super().__init__(db_name=database, lock_timeout=LOCK_TIMEOUT_SECONDS, pool_timeout=LOCK_TIMEOUT_SECONDS)
        self.schema = schema
        self.synchronous = synchronous

    @staticmethod
    def detect_memory_mode(db_name: str) -> bool:
        """Whether `db_name` is in memory: ours are then URIs, and files are absolute paths."""
        return db_name.startswith("file:")

    def get_connection(self, timeout: float | None = None, *, is_writer: bool | None = None) -> SQLiteConnection:
        """A connection, to write one at a time, or to read.

        Where none can be made, the library's pool (9.5.6) keeps the place of who asked for it: no writer would ever
        come after one that is gone.
        """
        try:
            return super().get_connection(timeout, is_writer=is_writer)
        except TallybookError:  # which only the making of a connection raises, with the place taken
            self._leave(is_writer)
            raise

    def put_connection(self, conn: SQLiteConnection) -> None:
        """Take a connection back. Once the pool is closed, it is closed."""
        with self._put_condition:
            if not self._closed:
                super().put_connection(conn)
                return
            self._in_use.pop(id(conn), None)
            conn.close()
            self._leave(conn.is_writer)
            self._put_condition.notify_all()  # who waits for a connection is told that there is none any more

    def _leave(self, is_writer: bool | None) -> None:
        """Let others have the place of a writer or a reader."""
        if is_writer:
            self._num_writers -= 1
            self._writer_lock.release()
        elif is_writer is False:
            with self._no_readers:
                self._num_readers -= 1
                self._no_readers.notify()

    def close(self) -> None:
        """Close all connections: those in use when they are given back.

        The library's pool (9.5.6) closes these at once, and SQLite ends the process where a connection is closed while
        another thread executes a statement on it.
        """
        with self._put_condition:
            in_use, self._in_use = self._in_use, {}
            super().close()
            self._in_use = in_use

    def _create_connection(self) -> SQLiteConnection:
        if self._closed:  # while it was waited for
            raise LedgerUnavailable(CLOSED)
        with translated(self.db_name):
            if self.schema.is_disposable:
                _remove_leftovers(self.db_name)
            connection = sqlite3.connect(
                self.db_name, uri=True, check_same_thread=False, isolation_level=None, timeout=LOCK_TIMEOUT_SECONDS
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        return _Connection(connection, self.db_name)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the connection ready; a database that isn't ours is refused before anything in it is changed."""
        connection.row_factory = sqlite3.Row
        is_made = self.schema.is_in(connection, self.db_name)
        if not self.is_sqlite_memory_mode:
            _use_write_ahead_log(connection)
        _synchronise(connection, self.synchronous)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if not is_made:
            self.schema.make(connection, self.db_name)


class _Connection(SQLiteConnection):
    def __init__(self, connection: sqlite3.Connection, database: str) -> None:
        super().__init__(connection, max_age=None)
        self.database = database

    @contextmanager
    def transaction(self, *, commit: bool) -> Generator[SQLiteCursor]:
        """A transaction; one that writes takes the write lock at once, so that what it reads first stays true."""
        with translated(self.database):
            cursor = self._sqlite_conn.cursor()
            cursor.execute("BEGIN IMMEDIATE" if commit else "BEGIN")
            try:
                yield SQLiteCursor(cursor)
                if commit:
                    self._sqlite_conn.commit()
            finally:
                # Also where the commit failed, which may leave the transaction open: the connection is used again.
                self._sqlite_conn.rollback()
                cursor.close()


def _remove_leftovers(database: str) -> None:
    """Remove what SQLite kept beside a file that was deleted: it would take it for the new one's."""
    if not Path(database).exists():
        for suffix in ("-wal", "-shm"):
            Path(database + suffix).unlink(missing_ok=True)


def _synchronise(connection: sqlite3.Connection, mode: str) -> None:
    connection.execute(f"PRAGMA synchronous = {mode}")
    got = connection.execute("PRAGMA synchronous").fetchone()[0]
    if got != SYNCHRONOUS[mode]:
        raise LedgerUnavailable(f"SQLite does not take synchronous={mode} (it says {got}); refusing to go on without.")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Several processes may open a new file at once: the switch waits for none, so it is tried again."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise LedgerUnavailable(f"SQLite can't use a write-ahead log here (journal mode {mode}).")
            return
