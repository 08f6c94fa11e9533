"""The statements of the store on PostgreSQL."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.sql import Composable

from .watch import Statement, StoreFails, Watch

Answer = TypeVar("Answer")
ANSWERS = {"disk full": errors.DiskFull, "disk I/O error": errors.IoError}


@contextmanager
def watched_postgres(watch: Watch) -> Generator[None]:
    """Let `watch` be told of each statement that this thread has psycopg execute. Rolling back always works."""
    execute, connect, thread = psycopg.Cursor.execute, psycopg.connect, threading.current_thread()

    def executed(cursor: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        text = _text(query)
        if threading.current_thread() is not thread or text == "ROLLBACK":
            return execute(cursor, query, *arguments, **named)
        return _watched(watch, cursor.connection, text, lambda: execute(cursor, query, *arguments, **named))

    def connected(*arguments: Any, **named: Any) -> Any:
        connection = connect(*arguments, **named)
        try:
            _watched(watch, connection, "CONNECT", lambda: None)
        except BaseException:
            connection.close()
            raise
        return connection

    cursors: Any = psycopg.Cursor
    cursors.execute, psycopg.connect = executed, connected
    try:
        yield
    finally:
        cursors.execute, psycopg.connect = execute, connect


def is_open(connection: "psycopg.Connection[Any]") -> bool:
    """Whether a transaction is open on a connection."""
    return not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE


def _watched(watch: Watch, connection: "psycopg.Connection[Any]", text: str, run: Callable[[], Answer]) -> Answer:
    statement = Statement(connection, text)
    try:
        watch.before(statement)
        answer = run()
        watch.after(statement)
    except StoreFails as failed:
        raise _error(connection, str(failed)) from failed
    return answer


def _error(connection: "psycopg.Connection[Any]", said: str) -> psycopg.Error:
    """What psycopg raises, with the connection left as it is then."""
    if said in ANSWERS:
        if is_open(connection):
            connection.pgconn.exec_(b"SELECT 1 / 0")  # after an error nothing more is done in a transaction
        return ANSWERS[said](said)
    connection.close()
    return psycopg.OperationalError(f"server closed the connection unexpectedly: {said}")


def _text(query: Any) -> str:
    text = query.decode() if isinstance(query, bytes) else query.as_string() if isinstance(query, Composable) else query
    return "COMMIT" if text.endswith("COMMIT") else text
