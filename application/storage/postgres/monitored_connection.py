"""Connections that notice a server that has fallen silent. docs/decisions/0022 says why TCP is not enough."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, Cursor
from psycopg.generators import fetch_many
from psycopg.waiting import Wait

from ..overlapped_work import take_overlapped_work
from .errors import ConnectFailed
from .parameters import MIN_CONNECT_TIMEOUT_SECONDS

Result = TypeVar("Result")
MIN_SILENCE_SECONDS = 1.0
"""The server is not queried about a statement that takes less."""
_SILENCE_SHARE = 0.6
"""The part of the timeout after which the server is queried; the rest is for its answer."""
# A pooler reports a process number of its own, so behind one an answer has to be enough. A role that may not see the
# state of the session reads NULL. A server that waits for the client executes nothing.
_IS_EXECUTING = """
SELECT pg_backend_pid() <> %(pid_of_this_connection)s OR EXISTS (
    SELECT FROM pg_stat_activity WHERE pid = %(pid)s
    AND (state IS NULL OR state NOT LIKE 'idle%%') AND wait_event_type IS DISTINCT FROM 'Client'
)
"""


class ServerMonitor:
    """Queries the server, on another connection, whether it executes a statement that takes long."""

    def __init__(self, parameters: Mapping[str, Any], timeout_seconds: float) -> None:
        self.silence_seconds = max(timeout_seconds * _SILENCE_SHARE, MIN_SILENCE_SECONDS)
        self.lost_at = 0.0
        """When a connection was last found to be lost, in seconds of the monotonic clock. Older ones are not used."""
        self._unreachable_at = 0.0
        self._parameters: dict[str, Any] = {
            **parameters,
            "connect_timeout": max(round(timeout_seconds - self.silence_seconds), MIN_CONNECT_TIMEOUT_SECONDS),
            "target_session_attrs": "any",
        }
        self._lock = threading.Lock()

    def is_executing(self, connection: "MonitoredConnection") -> bool:
        """Return whether the server executes the statement of a connection. Raise ConnectFailed if it does not answer.

        It also does not execute a statement whose result is on its way to the client.
        """
        queried_at = monotonic()
        with self._lock:  # one more connection at most, and one wait for all connections to the same server
            if self._unreachable_at > queried_at:
                raise self._unreachable()
            try:
                return self._query(connection)
            except psycopg.Error as error:
                if error.sqlstate is not None:
                    return True  # the server answers, but may not say more
                self._unreachable_at = monotonic()
                raise self._unreachable() from error

    def _query(self, connection: "MonitoredConnection") -> bool:
        """Query the server that the connection was opened to, even if its name has another address by now."""
        info = connection.info
        address = {"host": info.host, "port": info.port, "hostaddr": info.hostaddr or None}
        parameters: dict[str, Any] = {
            name: value for name, value in (self._parameters | address).items() if value is not None
        }
        with closing(_LimitedConnection.connect(**parameters)) as probe:
            probe.silence_seconds = self.silence_seconds
            numbers = {"pid_of_this_connection": probe.info.backend_pid, "pid": info.backend_pid}
            return probe.execute(_IS_EXECUTING, numbers).fetchone() == (True,)

    def _unreachable(self) -> ConnectFailed:
        return ConnectFailed(
            f"the server has not answered for {self.silence_seconds:g} seconds, and accepts no other connection"
        )


class MonitoredConnection(Connection[Any]):
    """A connection whose statements fail if the server has fallen silent. It is closed then."""

    monitor: ServerMonitor | None = None

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.opened_at = monotonic()
        self.is_ending = False
        """Whether the response to a ROLLBACK is still to be received."""
        self.reads_after_commit = False
        """Whether a read transaction is open in place of a write transaction, which is committed."""
        self._overlapped_work: Callable[[], None] | None = None
        self._until_commit = ExitStack()

    def start_pipeline(self) -> None:
        """Send statements without waiting for the responses of those before, until rows are fetched."""
        self._until_commit.enter_context(self.pipeline())

    def end_pipeline(self) -> None:
        """Receive all responses. Raise psycopg's error if a statement failed. Do nothing outside of a pipeline."""
        self._until_commit.close()

    def read_after_commit(self, begin_statements: Sequence[str]) -> Cursor[Any]:
        """Commit, and start a read transaction, in one round trip if a pipeline was started; return its last rows."""
        self.execute("COMMIT")
        *_, rows = [self.execute(statement.encode()) for statement in begin_statements]
        self.end_pipeline()
        self.reads_after_commit = True
        return rows

    def end_read(self) -> None:
        """Send ROLLBACK, and let the next statement receive the response, which saves a round trip."""
        self.pgconn.send_query(b"ROLLBACK")
        self.pgconn.flush()
        self.is_ending = True
        self.reads_after_commit = False

    def overlap_next_statement(self) -> None:
        """Do the overlapped work, if there is any, while the server executes the next statement."""
        self._overlapped_work = take_overlapped_work()

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **named: Any) -> Result:
        """Wait for a step of the protocol. Raise OperationalError if the server has fallen silent.

        Waiting for notifications is not monitored, because it has a timeout.
        """
        if self.is_ending:
            self.is_ending = False
            self.wait(fetch_many(self.pgconn))
        work, self._overlapped_work = self._overlapped_work, None
        if work is not None:
            gen = _work_after_sending(gen, work)
        if self.monitor is None or named.get("timeout") is not None:
            return super().wait(gen, *args, **named)
        monitored = _limit_silence(gen, self.monitor.silence_seconds, self._check_server)
        return super().wait(monitored, *args, **named)

    def _check_server(self, is_suspected: bool) -> bool:
        """Return whether the statement may be lost. Raise OperationalError if that was suspected before."""
        assert self.monitor is not None
        try:
            is_executing = self.monitor.is_executing(self)
            if is_suspected and not is_executing:
                raise psycopg.OperationalError("the connection was lost: the server does not execute its statement")
        except BaseException:
            self.monitor.lost_at = monotonic()
            self.close()
            raise
        return not is_executing


class _LimitedConnection(Connection[Any]):
    """A connection whose statements fail if nothing is received for a number of seconds."""

    silence_seconds = MIN_SILENCE_SECONDS

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **named: Any) -> Result:
        """Wait for a step of the protocol. Raise OperationalError if nothing is received."""
        return super().wait(_limit_silence(gen, self.silence_seconds, self._fail), *args, **named)

    def _fail(self, _: bool) -> bool:
        self.close()
        raise psycopg.OperationalError(f"nothing was received for {self.silence_seconds:g} seconds")


def _work_after_sending(steps: Generator[Any, Any, Result], work: Callable[[], None]) -> Generator[Any, Any, Result]:
    """Run a generator of psycopg. Call `work` when it first waits only to receive, because all is sent then."""
    try:
        wanted = next(steps)
        while wanted != Wait.R:
            wanted = steps.send((yield wanted))
        work()
        while True:
            wanted = steps.send((yield wanted))
    except StopIteration as end:
        return end.value


def _limit_silence(
    steps: Generator[Any, Any, Result], seconds: float, on_silence: Callable[[bool], bool]
) -> Generator[Any, Any, Result]:
    """Run a generator of psycopg. Call `on_silence` when its socket has been neither readable nor writable for long.

    `on_silence` returns whether it suspects that the statement is lost. It is then called again with True, unless
    something is received within a second. psycopg resumes a generator about every 0.1 seconds, with nothing if the
    socket is not ready.
    """
    last_ready_at, is_suspected = monotonic(), False
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if ready:
                last_ready_at, is_suspected = monotonic(), False
            elif monotonic() - last_ready_at > (MIN_SILENCE_SECONDS if is_suspected else seconds):
                is_suspected = on_silence(is_suspected)
                last_ready_at = monotonic()
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value
