"""Observes the statements of the store on SQLite."""

import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from tallybook.application.storage.sqlite.pool import DatabaseConnection

from .observe import InjectedFault, Statement, StatementObserver

Result = TypeVar("Result")


class ObservedCursor(sqlite3.Cursor):
    """A cursor whose statements are observed."""

    connection: "ObservedConnection"  # pyright: ignore[reportIncompatibleMethodOverride]

    def execute(self, sql: str, parameters: Any = (), /) -> "ObservedCursor":
        """Run an observed statement."""
        return self.connection.run_observed(sql, lambda: super(ObservedCursor, self).execute(sql, parameters))

    def executemany(self, sql: str, parameters: Any, /) -> "ObservedCursor":
        """Run an observed statement for each of the parameters."""
        return self.connection.run_observed(sql, lambda: super(ObservedCursor, self).executemany(sql, parameters))


class ObservedConnection(DatabaseConnection):
    """A connection to SQLite whose statements are observed. A rollback never fails, as after a crash."""

    observer: StatementObserver
    thread: threading.Thread
    _is_writing = False

    @property
    def holds_write_lock(self) -> bool:
        """Whether the connection holds the write lock."""
        return self._is_writing and self.in_transaction

    def cursor(self, _: object = None) -> ObservedCursor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a cursor whose statements are observed."""
        return super().cursor(ObservedCursor)

    def execute(self, sql: str, parameters: Any = (), /) -> ObservedCursor:
        """Run an observed statement."""
        return self.cursor().execute(sql, parameters)

    def commit(self) -> None:
        """Commit as an observed statement."""
        self.run_observed("COMMIT", super().commit)

    def close(self) -> None:
        """Close the connection, which rolls back an open transaction and releases its locks."""
        self._is_writing = False
        super().close()

    def run_observed(self, text: str, run: Callable[[], Result]) -> Result:
        """Run the statement `text`, unless the observer raises an exception."""
        if threading.current_thread() is not self.thread:
            return run()
        statement = Statement(self, text)
        try:
            self.observer.before(statement)
            result = run()
            if statement.begins_transaction:
                self._is_writing = "IMMEDIATE" in text
            self.observer.after(statement)
        except InjectedFault as error:
            raise sqlite3.OperationalError(
                "database or disk is full" if str(error) == "disk full" else str(error)
            ) from error
        return result


@contextmanager
def observe_sqlite(observer: StatementObserver) -> Generator[None]:
    """Report each new connection inside the context, and each of its statements on this thread, to `observer`.

    Statements of other threads would arrive in a different order in every run.
    """
    connect, thread = sqlite3.connect, threading.current_thread()

    def connected(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **{**named, "factory": ObservedConnection})
        if isinstance(connection, ObservedConnection):
            connection.observer, connection.thread = observer, thread
            try:
                connection.run_observed("CONNECT", lambda: None)
            except BaseException:
                connection.close()
                raise
        return connection

    sqlite3.connect = connected
    try:
        yield
    finally:
        sqlite3.connect = connect
