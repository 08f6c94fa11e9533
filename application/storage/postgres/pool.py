"""A pool of connections that are opened on demand."""

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from .errors import ConnectFailed
from .monitored_connection import MonitoredConnection

_RECONNECT_SECONDS = 1.0
"""The pool doubles the time between two attempts to connect, and starts again after this time."""


class Pool(ConnectionPool[MonitoredConnection]):
    """A pool that opens connections on demand and reports why one cannot be opened."""

    def __init__(
        self,
        parameters: Mapping[str, Any],
        max_connections: int,
        timeout_seconds: float,
        configure: Callable[[MonitoredConnection], None],
    ) -> None:
        self.last_connect_error: Exception | None = None
        super().__init__(
            kwargs=dict(parameters),
            connection_class=MonitoredConnection,
            min_size=0,
            max_size=max_connections,
            open=False,
            timeout=timeout_seconds,
            configure=configure,
            reconnect_timeout=_RECONNECT_SECONDS,
            reconnect_failed=_reconnect_while_threads_wait,
            num_workers=1,
            name="tallybook",
        )

    def getconn(self, timeout: float | None = None) -> MonitoredConnection:
        """Return a connection. Raise ConnectFailed with the reason if none can be opened."""
        try:
            return super().getconn(timeout)
        except psycopg.OperationalError:
            connect_error, self.last_connect_error = self.last_connect_error, None
            if connect_error is not None:
                raise ConnectFailed(f"no connection can be opened: {connect_error}") from connect_error
            raise

    def _reset_connection(self, conn: MonitoredConnection) -> None:
        if not conn.is_ending:  # otherwise the pool would close it, because it waits for a response
            super()._reset_connection(conn)

    def _connect(self, timeout: float | None = None) -> MonitoredConnection:
        try:
            connection = super()._connect(timeout)
        except psycopg.Error as error:
            self.last_connect_error = error
            raise
        self.last_connect_error = None
        return connection


def _reconnect_while_threads_wait(pool: "ConnectionPool[MonitoredConnection]") -> None:
    if pool.get_stats().get("requests_waiting"):
        pool.check()  # which lets the pool grow
