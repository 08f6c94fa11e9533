"""SQLite connections as this project needs them: durable, write-locked from the start, errors that can be acted on."""

import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from eventsourcing.persistence import ConnectionPoolClosedError, ConnectionUnavailableError, IntegrityError
from eventsourcing.sqlite import SQLiteConnection, SQLiteConnectionPool, SQLiteCursor, SQLiteDatastore

from ...domain.errors import LedgerUnavailable, NewerSchema, NotALedger, TallybookError

LOCK_TIMEOUT_SECONDS = 30
CACHE_KIBIBYTES = 64 * 1024
CHECKPOINT_PAGES = 8_000


class Datastore(SQLiteDatastore):
    """One SQLite database: a file, or one in memory by a name of its own."""

    def __init__(self, database: str, *, synchronous: str) -> None:
        super().__init__(database, originator_id_type="text")
        self.pool = _Pool(database, synchronous)


    @contextmanager
    def transaction(self, *, commit: bool) -> Generator[SQLiteCursor]:
        """A transaction on a connection of the pool. Raises LedgerUnavailable where there is none to be had."""
        try:
            with super().transaction(commit=commit) as cursor:
                yield cursor
        except ConnectionPoolClosedError as error:
            raise LedgerUnavailable("The ledger was closed; open it again.") from error
        except ConnectionUnavailableError as error:
            raise LedgerUnavailable(
                f"No connection to the ledger came free within {LOCK_TIMEOUT_SECONDS} seconds; try again."
            ) from error


class _Pool(SQLiteConnectionPool):
    def __init__(self, database: str, synchronous: str) -> None:
        super().__init__(db_name=database, lock_timeout=LOCK_TIMEOUT_SECONDS, pool_timeout=LOCK_TIMEOUT_SECONDS)
        self.synchronous = synchronous

    def _create_connection(self) -> SQLiteConnection:
        with translated(self.db_name):
            connection = sqlite3.connect(
                self.db_name, uri=True, check_same_thread=False, isolation_level=None, timeout=LOCK_TIMEOUT_SECONDS
            )
            try:
                if not self.is_sqlite_memory_mode:
                    _use_write_ahead_log(connection)
                _set(connection, "synchronous", self.synchronous)
                connection.row_factory = sqlite3.Row
                connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
                connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            except BaseException:
                connection.close()
                raise
        return _Connection(connection, self.db_name)


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
            except BaseException:
                self._sqlite_conn.rollback()
                raise
            else:
                if commit:
                    self._sqlite_conn.commit()
                else:
                    self._sqlite_conn.rollback()
            finally:
                cursor.close()


SYNCHRONOUS = {"OFF": 0, "NORMAL": 1, "FULL": 2}


def _set(connection: sqlite3.Connection, pragma: str, value: str) -> None:
    connection.execute(f"PRAGMA {pragma} = {value}")
    got = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    if got != SYNCHRONOUS[value]:
        raise LedgerUnavailable(f"SQLite does not take {pragma}={value} (it says {got}); refusing to go on without it.")


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


@contextmanager
def translated(database: str) -> Generator[None]:
    """SQLite's errors as ours, each saying what to do."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise IntegrityError(error) from error
    except sqlite3.Error as error:
        raise _refusal(str(error), database) from error


def _refusal(said: str, database: str) -> TallybookError:
    if "not a database" in said:
        return NotALedger(f"The file {database!r} is not a Tallybook ledger: {said}.", field="url", value=database)
    advice = next((advice for sign, advice in _ADVICE.items() if sign in said), "")
    return LedgerUnavailable(f"SQLite on {database!r}: {said}.{advice}", field="url", value=database)


_ADVICE = {
    "locked": f" Another process held it for over {LOCK_TIMEOUT_SECONDS} seconds; try again.",
    "readonly": " The file or its folder is read-only for this user.",
    "full": " Free some space; nothing that was accepted is lost.",
    "unable to open": " Its folder must exist and be writable.",
    "malformed": " The file is damaged; restore it from a backup.",
}


def prepare(datastore: Datastore, kind: int, version: int, statements: Sequence[str]) -> None:
    """Make the tables of a new database, and refuse one that is of another kind or a later version.

    `kind` is the SQLite application id, `version` the user version that the file must carry.
    """
    with datastore.transaction(commit=False) as cursor:
        if _is_prepared(cursor, datastore.pool, kind, version):
            return
    with datastore.transaction(commit=True) as cursor:
        if _is_prepared(cursor, datastore.pool, kind, version):
            return
        for statement in statements:
            cursor.execute(statement)
        cursor.execute(f"PRAGMA application_id = {kind}")
        cursor.execute(f"PRAGMA user_version = {version}")


def _is_prepared(cursor: SQLiteCursor, pool: Any, kind: int, version: int) -> bool:
    database = pool.db_name
    found_kind, found_version, tables = (
        _one(cursor, "PRAGMA application_id"),
        _one(cursor, "PRAGMA user_version"),
        _one(cursor, "SELECT count(*) FROM sqlite_schema"),
    )
    if found_kind == 0 and found_version == 0 and tables == 0:
        return False
    if found_kind != kind:
        raise NotALedger(
            f"The SQLite database {database!r} was not made by Tallybook; give another file.",
            field="url",
            value=database,
        )
    if found_version > version:
        raise NewerSchema(
            f"{database!r} has schema version {found_version}; this Tallybook knows {version}. Install a later one.",
            field="url",
            value=database,
        )
    return True


def _one(cursor: SQLiteCursor, statement: str) -> int:
    cursor.execute(statement)
    return int(cursor.fetchone()[0])
