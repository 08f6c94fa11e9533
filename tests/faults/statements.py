"""Observes the statements of all stores."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import psycopg

from .observe import InjectedFault, Statement, StatementObserver
from .postgres_statements import is_open, observe_postgres
from .sqlite_statements import ObservedConnection, observe_sqlite

__all__ = ["InjectedFault", "Statement", "StatementObserver", "holds_write_lock", "observe_statements"]


@contextmanager
def observe_statements(observer: StatementObserver) -> Generator[None]:
    """Report each statement and each new connection of every store to `observer`, inside the context."""
    with observe_sqlite(observer), observe_postgres(observer):
        yield


def holds_write_lock(connection: object) -> bool:
    """Return whether another process may have to wait for the transaction of a connection."""
    if isinstance(connection, psycopg.Connection):
        return is_open(cast("psycopg.Connection[Any]", connection))
    return isinstance(connection, ObservedConnection) and connection.holds_write_lock
