"""Where the stores meet their databases."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import psycopg

from .postgres_statements import is_open, watched_postgres
from .sqlite_statements import WatchedConnection, watched_sqlite
from .watch import Statement, StoreFails, Watch

__all__ = ["Statement", "StoreFails", "Watch", "blocks", "watched"]


@contextmanager
def watched(watch: Watch) -> Generator[None]:
    """Let `watch` be told of each statement of each store meanwhile, and of each connection that is made."""
    with watched_sqlite(watch), watched_postgres(watch):
        yield


def blocks(connection: object) -> bool:
    """Whether another process may have to wait for what a connection has begun."""
    if isinstance(connection, psycopg.Connection):
        return is_open(cast("psycopg.Connection[Any]", connection))
    return isinstance(connection, WatchedConnection) and connection.blocks
