"""The connections of a process, and which of them is closed to make room for a new one."""

from collections import OrderedDict
from typing import Protocol


class TabledConnection(Protocol):
    """A connection that can be closed."""

    def close(self) -> None:
        """Close the connection."""
        ...


class ConnectionTable:
    """The connections that have a place, of which there is a limited number.

    A connection waits for its client until it has a complete request to answer. If no place is free, the one that has
    waited longest is closed for a new one: first those on which no request had a valid access key, then the others. So
    connections that do nothing can't exclude clients that have something to send.
    """

    def __init__(self, max_connections: int) -> None:
        self.max_connections = max_connections
        self._connections: set[TabledConnection] = set()
        self._waiting: dict[bool, OrderedDict[TabledConnection, None]] = {False: OrderedDict(), True: OrderedDict()}
        """The connections that wait for their clients, in the order in which they started to, by authentication."""

    def admit(self, connection: TabledConnection) -> bool:
        """Return whether a new connection has a place; another one may be closed for it."""
        if len(self._connections) >= self.max_connections and not self._close_longest_waiting():
            return False
        self._connections.add(connection)
        self.start_waiting(connection, is_authenticated=False)
        return True

    def start_waiting(self, connection: TabledConnection, *, is_authenticated: bool) -> None:
        """Note that a connection waits for its client from now on."""
        if connection in self._connections:
            self.stop_waiting(connection)
            self._waiting[is_authenticated][connection] = None

    def stop_waiting(self, connection: TabledConnection) -> None:
        """Note that a connection has a complete request."""
        for waiting in self._waiting.values():
            waiting.pop(connection, None)

    def remove(self, connection: TabledConnection) -> None:
        """Note that a connection has ended."""
        self._connections.discard(connection)
        self.stop_waiting(connection)

    def _close_longest_waiting(self) -> bool:
        """Close the connection that has waited longest. Return False if none waits."""
        for is_authenticated in (False, True):
            if self._waiting[is_authenticated]:
                connection = next(iter(self._waiting[is_authenticated]))
                self.remove(connection)
                connection.close()
                return True
        return False
