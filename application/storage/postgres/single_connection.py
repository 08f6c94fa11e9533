"""A PostgreSQL connection of its own, for temporary tables."""

import os

from ....domain.errors import LedgerUnavailable
from ...uuid7 import uuid7
from .connection import PostgresDatastore
from .errors import translate_errors
from .monitored_connection import MonitoredConnection, ServerMonitor
from .settings import PostgresSettings


class SingleConnectionDatastore(PostgresDatastore):
    """A datastore with a single connection, for temporary tables. They are dropped when the connection ends."""

    is_temporary = True

    def __init__(self, settings: PostgresSettings, monitor: ServerMonitor) -> None:
        super().__init__(settings, "pg_temp", 1, monitor)
        with translate_errors(self.location):
            self._connection = self.connect()
        self.lock_namespace = f"{self.schema} {uuid7()}"  # no other connection sees these tables

    def acquire(self, timeout: float) -> MonitoredConnection:  # noqa: ARG002 - the connection exists already
        """Return the connection. Another connection would not have the tables."""
        if self._connection.closed:
            raise LedgerUnavailable(f"PostgreSQL on {self.location}: the connection was lost. Try again.")
        return self._connection

    def release(self, connection: MonitoredConnection) -> None:
        """Do nothing: the connection stays open."""

    def close(self) -> None:
        """Close the connection, which drops the tables. In a forked process, leave it open for the parent process."""
        super().close()
        connection: MonitoredConnection | None = getattr(self, "_connection", None)
        if connection is not None and os.getpid() == self.process_id:
            connection.close()
