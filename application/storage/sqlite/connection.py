"""SQLite databases: how they are opened, with which durability, and their transactions."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from eventsourcing.persistence import ConnectionPoolClosedError, ConnectionUnavailableError, IntegrityError
from eventsourcing.sqlite import SQLiteConnection, SQLiteDatastore

from ....domain.errors import LedgerUnavailable
from ..ports import LEDGER_CLOSED, REBUILD_HINT
from .database_files import DatabaseFile
from .errors import LOCK_TIMEOUT_SECONDS, MALFORMED_SCHEMA, translate_errors, unavailable
from .fork_hooks import require_usable_after_fork
from .pool import Connection, ConnectionPool, DatabaseConnection
from .read_only_copy import ImmutableFile, immutable_uri
from .schema import Schema

CACHE_KIBIBYTES = 16 * 1024
CHECKPOINT_PAGES = 8_000
SYNCHRONOUS = {"NORMAL": 1, "FULL": 2}


class Datastore(SQLiteDatastore):
    """One SQLite database: a file, or a named database in memory.

    Each new connection creates the tables if they do not exist, because a file of read models may be deleted while
    the ledger is open.
    """

    def __init__(
        self,
        database: str,
        schema: Schema,
        *,
        synchronous: str,
        permissions_of: str | None = None,
        is_read_only_copy: bool = False,
    ) -> None:
        """Initialize; a new file gets the permissions of the file `permissions_of` if that exists, or 0600."""
        super().__init__(database, originator_id_type="text")
        self.is_disposable = schema.is_disposable
        self._is_read_only_copy = is_read_only_copy
        if is_read_only_copy:
            connect = partial(_connect_read_only, database, schema)
        else:
            connect = _Connector(database, schema, synchronous, permissions_of or database).connect
        self.pool = ConnectionPool(database, connect, LOCK_TIMEOUT_SECONDS, is_disposable=schema.is_disposable)

    @contextmanager
    def get_connection(self, *, commit: bool) -> Generator[SQLiteConnection]:
        """Borrow a connection from the pool for a transaction. Raise LedgerUnavailable if none is available."""
        try:
            with super().get_connection(commit=commit) as connection:
                yield connection
                if self._is_read_only_copy:
                    assert isinstance(connection, Connection)
                    connection.require_current_file()
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


class _Connector:
    """Opens connections to one database."""

    def __init__(self, database: str, schema: Schema, synchronous: str, permissions_of: str) -> None:
        self._database = database
        self._schema = schema
        self._synchronous = synchronous
        self._file = (
            None
            if ConnectionPool.detect_memory_mode(database)
            else DatabaseFile(database, permissions_of, is_disposable=schema.is_disposable)
        )

    def connect(self) -> Connection:
        """Return a new connection. The file and the tables are created if they do not exist."""
        if self._file is not None:
            require_usable_after_fork(self._database)
            self._file.prepare()
        with _new_connection(self._database) as connection:
            self._configure(connection)
            files = None if self._file is None else self._file.opened()
        return Connection(connection, self._database, files, is_disposable=self._schema.is_disposable)

    def _configure(self, connection: sqlite3.Connection) -> None:
        """Configure the connection. A database that is not Tallybook's is rejected before anything in it changes."""
        connection.row_factory = sqlite3.Row
        is_current = self._schema.is_current_in(connection, self._database)
        if self._file is not None:
            _enable_wal(connection)
        _set_synchronous(connection, self._synchronous)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if not is_current:
            self._schema.upgrade(connection, self._database)


@contextmanager
def _new_connection(database: str, uri: str | None = None) -> Generator[DatabaseConnection]:
    """Connect to a database, and close the connection if the block fails."""
    with translate_errors(database):
        connection = sqlite3.connect(
            uri or database,
            uri=True,
            check_same_thread=False,
            isolation_level=None,
            timeout=LOCK_TIMEOUT_SECONDS,
            factory=DatabaseConnection,
        )
        try:
            yield connection
        except BaseException as error:
            connection.close()
            if isinstance(error, UnicodeDecodeError):  # SQLite's message quotes the schema
                raise unavailable(database, MALFORMED_SCHEMA) from error
            raise


def _connect_read_only(database: str, schema: Schema) -> Connection:
    """Return a new connection to a read-only copy."""
    with _new_connection(database, immutable_uri(database)) as connection:
        connection.row_factory = sqlite3.Row
        files = ImmutableFile(database)
        if not schema.is_current_in(connection, database):
            raise unavailable(database, "an earlier version wrote it. Copy it to a folder that you can write.")
    return Connection(connection, database, files, is_disposable=False)


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
