"""The statements of the store on SQLite."""

import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from .watch import Statement, StoreFails, Watch

Answer = TypeVar("Answer")


class WatchedCursor(sqlite3.Cursor):
    """A cursor whose statements are watched."""

    connection: "WatchedConnection"  # pyright: ignore[reportIncompatibleMethodOverride]

    def execute(self, sql: str, parameters: Any = (), /) -> "WatchedCursor":
        """Run a statement."""
        return self.connection.watched(sql, lambda: super(WatchedCursor, self).execute(sql, parameters))

    def executemany(self, sql: str, parameters: Any, /) -> "WatchedCursor":
        """Run a statement for each of some parameters."""
        return self.connection.watched(sql, lambda: super(WatchedCursor, self).executemany(sql, parameters))


class WatchedConnection(sqlite3.Connection):
    """A connection to SQLite whose statements are watched. Rolling back always works, as it does after a crash."""

    watch: Watch
    thread: threading.Thread
    _is_writing = False

    @property
    def blocks(self) -> bool:
        """Whether it holds the write lock."""
        return self._is_writing and self.in_transaction

    def cursor(self, _: object = None) -> WatchedCursor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A cursor whose statements are watched."""
        return super().cursor(WatchedCursor)

    def execute(self, sql: str, parameters: Any = (), /) -> WatchedCursor:
        """Run a statement."""
        return self.cursor().execute(sql, parameters)

    def commit(self) -> None:
        """Commit, as a statement that is watched."""
        self.watched("COMMIT", super().commit)

    def close(self) -> None:
        """Close, which lets go of all that was begun."""
        self._is_writing = False
        super().close()

    def watched(self, text: str, run: Callable[[], Answer]) -> Answer:
        """Run what `text` stands for, unless the watch raises."""
        if threading.current_thread() is not self.thread:
            return run()
        statement = Statement(self, text)
        try:
            self.watch.before(statement)
            answer = run()
            if statement.begins:
                self._is_writing = "IMMEDIATE" in text
            self.watch.after(statement)
        except StoreFails as error:
            raise sqlite3.OperationalError(
                "database or disk is full" if str(error) == "disk full" else str(error)
            ) from error
        return answer


@contextmanager
def watched_sqlite(watch: Watch) -> Generator[None]:
    """Let `watch` be told of the statements of this thread on each connection made meanwhile, and of its making.

    What another thread says would come at another moment in every run.
    """
    connect, thread = sqlite3.connect, threading.current_thread()

    def connected(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **{"factory": WatchedConnection, **named})
        if isinstance(connection, WatchedConnection):
            connection.watch, connection.thread = watch, thread
            try:
                connection.watched("CONNECT", lambda: None)
            except BaseException:
                connection.close()
                raise
        return connection

    sqlite3.connect = connected
    try:
        yield
    finally:
        sqlite3.connect = connect
