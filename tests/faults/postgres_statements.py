"""Observes the statements of the store on PostgreSQL."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.sql import Composable
from tallybook.application.storage.postgres.monitored_connection import MonitoredConnection

from .observe import InjectedFault, Statement, StatementObserver

Result = TypeVar("Result")
ERRORS = {"disk full": errors.DiskFull, "disk I/O error": errors.IoError}


@contextmanager
def observe_postgres(observer: StatementObserver) -> Generator[None]:
    """Report each statement that psycopg executes on this thread to `observer`. A rollback never fails."""
    execute, connect, thread = psycopg.Cursor.execute, MonitoredConnection.connect, threading.current_thread()

    def executed(cursor: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        text = _text(query)
        if threading.current_thread() is not thread or text == "ROLLBACK":
            return execute(cursor, query, *arguments, **named)
        return _run_observed(observer, cursor.connection, text, lambda: execute(cursor, query, *arguments, **named))

    def connected(*arguments: Any, **named: Any) -> Any:
        connection = connect(*arguments, **named)
        if threading.current_thread() is not thread:  # a thread of the pool
            return connection
        try:
            _run_observed(observer, connection, "CONNECT", lambda: None)
        except BaseException:
            connection.close()
            raise
        return connection

    cursors: Any = psycopg.Cursor
    connections: Any = MonitoredConnection
    cursors.execute, connections.connect = executed, connected
    try:
        yield
    finally:
        cursors.execute = execute
        del connections.connect  # the inherited one


def is_open(connection: "psycopg.Connection[Any]") -> bool:
    """Return whether a transaction is open on a connection."""
    return not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE


def _run_observed(
    observer: StatementObserver, connection: "psycopg.Connection[Any]", text: str, run: Callable[[], Result]
) -> Result:
    statement = Statement(connection, text)
    try:
        observer.before(statement)
        result = run()
        observer.after(statement)
    except InjectedFault as failed:
        raise _error(connection, str(failed)) from failed
    return result


def _error(connection: "psycopg.Connection[Any]", message: str) -> psycopg.Error:
    """Return the error of psycopg, with the connection in the state after that error."""
    if message in ERRORS:
        if is_open(connection):
            connection.pgconn.exec_(b"SELECT 1 / 0")  # aborts the transaction, as an error of the server does
        return ERRORS[message](message)
    connection.close()
    return psycopg.OperationalError(f"server closed the connection unexpectedly: {message}")


def _text(query: Any) -> str:
    text = query.decode() if isinstance(query, bytes) else query.as_string() if isinstance(query, Composable) else query
    return "COMMIT" if text.endswith("COMMIT") else text
