"""SQLite connections: a pool, durability settings, and the translation of errors."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from eventsourcing.persistence import ConnectionPoolClosedError, ConnectionUnavailableError, IntegrityError
from eventsourcing.sqlite import SQLiteConnection, SQLiteConnectionPool, SQLiteCursor, SQLiteDatastore

from ....domain.errors import LedgerUnavailable, NotALedger, TallybookError
from ..ports import LEDGER_CLOSED, REBUILD_HINT
from .schema import Schema

LOCK_TIMEOUT_SECONDS = 30

_HINTS = {
    "locked": f" Another process held it for over {LOCK_TIMEOUT_SECONDS} seconds; try again.",
    "readonly": " The file, its -wal or -shm file, or its folder is read-only for this user.",
    "full": " Free some space; no accepted data is lost.",
    "disk I/O": " The disk may be full or failing, or a quota reached; no accepted data is lost.",
    "unable to open": " Its folder must exist and be writable.",
    "malformed": " The file is corrupted. Read models (.read-models) can be deleted; restore a ledger from its backup.",
}


@contextmanager
def translate_errors(database: str) -> Generator[None]:
    """Translate SQLite's errors to the library's IntegrityError, NotALedger or LedgerUnavailable."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise IntegrityError(error) from error
    except sqlite3.Error as error:
        raise _to_error(str(error), database) from error


def _to_error(message: str, database: str) -> TallybookError:
    if "not a database" in message:
        return NotALedger(f"The file {database!r} is not a Tallybook ledger: {message}.", field="url", value=database)
    hint = next((hint for pattern, hint in _HINTS.items() if pattern in message), "")
    return LedgerUnavailable(f"SQLite on {database!r}: {message}.{hint}", field="url", value=database)


CACHE_KIBIBYTES = 16 * 1024
CHECKPOINT_PAGES = 8_000
SYNCHRONOUS = {"NORMAL": 1, "FULL": 2}


class Datastore(SQLiteDatastore):
    """One SQLite database: a file, or a named database in memory.

    Each new connection creates the tables if they do not exist, because a file of read models may be deleted while
    the ledger is open.
    """

    def __init__(self, database: str, schema: Schema, *, synchronous: str) -> None:
        super().__init__(database, originator_id_type="text")
        self.is_disposable = schema.is_disposable
        self.pool = _Pool(database, schema, synchronous)

    @contextmanager
    def get_connection(self, *, commit: bool) -> Generator[SQLiteConnection]:
        """Borrow a connection from the pool for a transaction. Raise LedgerUnavailable if none is available."""
        try:
            with super().get_connection(commit=commit) as connection:
                yield connection
        except IntegrityError as error:
            if not self.is_disposable:
                raise
            raise LedgerUnavailable(f"The read models are corrupted: {error}. {REBUILD_HINT}") from error
        except ConnectionPoolClosedError as error:
            raise LedgerUnavailable(LEDGER_CLOSED) from error
        except ConnectionUnavailableError as error:
            raise LedgerUnavailable(
                f"No connection to the ledger came free within {LOCK_TIMEOUT_SECONDS} seconds; try again."
            ) from error

    @contextmanager
    def autocommit_cursor(self) -> Generator[sqlite3.Cursor]:
        """Yield a cursor for reads outside a transaction, with rows as tuples.

        BEGIN and ROLLBACK release the interpreter lock. While another thread computes, each costs up to 5 ms to acquire
        the lock again.
        """
        with (
            self.get_connection(commit=False) as connection,
            translate_errors(self.pool.db_name),
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
        """Return whether the database is in memory: then its name is a URI. Files are absolute paths."""
        return db_name.startswith("file:")

    def get_connection(self, timeout: float | None = None, *, is_writer: bool | None = None) -> SQLiteConnection:
        """Return a connection to read, or the only connection to write.

        If no connection can be created, the library's pool (9.5.6) does not release the slot of the caller, so that no
        writer would ever follow. This method releases it.
        """
        try:
            return super().get_connection(timeout, is_writer=is_writer)
        except TallybookError:  # only the creation of a connection raises it, after the slot was taken
            self._release_slot(is_writer)
            raise

    def put_connection(self, conn: SQLiteConnection) -> None:
        """Return a connection to the pool, or close it if the pool is closed."""
        with self._put_condition:
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
                self._no_readers.notify()

    def close(self) -> None:
        """Close all connections; those in use are closed when they are returned.

        The library's pool (9.5.6) closes them at once, and SQLite crashes if a connection is closed while another
        thread executes a statement on it.
        """
        with self._put_condition:
            in_use, self._in_use = self._in_use, {}
            super().close()
            self._in_use = in_use

    def _create_connection(self) -> SQLiteConnection:
        if self._closed:  # while the caller waited for a connection
            raise LedgerUnavailable(LEDGER_CLOSED)
        with translate_errors(self.db_name):
            if self.schema.is_disposable:
                _remove_stale_wal(self.db_name)
            connection = sqlite3.connect(
                self.db_name, uri=True, check_same_thread=False, isolation_level=None, timeout=LOCK_TIMEOUT_SECONDS
            )
            try:
                self._configure(connection)
            except BaseException:
                connection.close()
                raise
        return _Connection(connection, self.db_name)

    def _configure(self, connection: sqlite3.Connection) -> None:
        """Configure the connection. A database that is not Tallybook's is rejected before anything in it changes."""
        connection.row_factory = sqlite3.Row
        is_current = self.schema.is_current_in(connection, self.db_name)
        if not self.is_sqlite_memory_mode:
            _enable_wal(connection)
        _set_synchronous(connection, self.synchronous)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if not is_current:
            self.schema.upgrade(connection, self.db_name)


class _Connection(SQLiteConnection):
    def __init__(self, connection: sqlite3.Connection, database: str) -> None:
        super().__init__(connection, max_age=None)
        self.database = database

    @contextmanager
    def transaction(self, *, commit: bool) -> Generator[SQLiteCursor]:
        """Start a transaction. A write transaction takes the write lock at once, so that its reads stay valid."""
        with translate_errors(self.database):
            cursor = self._sqlite_conn.cursor()
            cursor.execute("BEGIN IMMEDIATE" if commit else "BEGIN")
            try:
                yield SQLiteCursor(cursor)
                if commit:
                    self._sqlite_conn.commit()
            finally:
                # A failed commit may leave the transaction open, and the pool reuses the connection.
                self._sqlite_conn.rollback()
                cursor.close()


def _remove_stale_wal(database: str) -> None:
    """Remove the -wal and -shm files of a deleted database. SQLite would apply them to the new one."""
    if not Path(database).exists():
        for suffix in ("-wal", "-shm"):
            Path(database + suffix).unlink(missing_ok=True)


def _set_synchronous(connection: sqlite3.Connection, mode: str) -> None:
    connection.execute(f"PRAGMA synchronous = {mode}")
    actual = connection.execute("PRAGMA synchronous").fetchone()[0]
    if actual != SYNCHRONOUS[mode]:
        raise LedgerUnavailable(
            f"SQLite did not accept synchronous={mode} (it is {actual}), which durability depends on."
        )


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL mode. The switch does not wait for locks of other processes that open the file, so retry it."""
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
                raise LedgerUnavailable(f"SQLite cannot use a write-ahead log for this file (journal mode {mode}).")
            return
