"""PostgreSQL connections: a pool of limited size, transactions, and retries after a lost connection."""

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, Literal, TypeVar

import eventsourcing.postgres
import psycopg
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row, tuple_row
from psycopg.sql import SQL, Composed, Identifier
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from ....domain.errors import LedgerUnavailable
from ..forks import require_owner_process
from ..ports import LEDGER_CLOSED, TransientError
from .errors import (
    ConnectionLost,
    describe,
    is_lock_timeout,
    is_read_only,
    is_starting,
    lock_timeout_error,
    translate_errors,
)
from .locks import describe_lock_holders
from .monitored_connection import MonitoredConnection, ServerMonitor
from .parameters import connection_parameters, describe_location
from .pool import Pool
from .settings import PostgresSettings

Result = TypeVar("Result")
TransactionMode = Literal["statement", "read", "write"]
Prepare = Callable[[MonitoredConnection, Cursor[Any]], Result]

IDLE_TIMEOUT_SECONDS = 60
"""The server ends a write transaction that is idle for longer, so that it does not block other clients."""
TRANSACTION_TIMEOUT_SECONDS = 600
"""The server ends a write transaction that takes longer, even if the client stalls while sending; and a read
transaction that is idle for longer, because it keeps tables from being dropped."""
MIN_VERSION_TRANSACTION_TIMEOUT = 17_00_00
"""The first version of the server with the setting `transaction_timeout`."""
FORCE_SYNCHRONOUS_COMMIT = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)
"""Ensures that an acknowledged commit is on disk, whatever the server, the database or the role sets."""
COMMIT_ASYNCHRONOUSLY = "SET LOCAL synchronous_commit = off"
"""Lets a commit not wait for the disk: a crash of the server loses its latest commits, which are projected again."""
_INITIAL_RETRY_DELAY_SECONDS, _MAX_RETRY_DELAY_SECONDS = 0.01, 1
_BEGIN_SQL: dict[TransactionMode, tuple[str, ...]] = {
    "statement": (),  # autocommit
    # All statements read one consistent state.
    "read": (
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        f"SET LOCAL idle_in_transaction_session_timeout = '{TRANSACTION_TIMEOUT_SECONDS}s'",
    ),
    # Each statement sees everything that was committed before the locks it waited for were released.
    "write": (
        "BEGIN ISOLATION LEVEL READ COMMITTED",
        f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_SECONDS}s'",
    ),
}


class PostgresDatastore(eventsourcing.postgres.PostgresDatastore):
    """One schema of a PostgreSQL database, and a pool of connections to it.

    If a connection turns out to be lost when a transaction starts, another one is used, until the timeout of the
    settings. A connection that is lost inside a transaction raises ConnectionLost: the transaction was rolled back,
    unless the connection was lost during its commit.
    """

    is_temporary = False
    schemas_in_use: Sequence[str]
    """The schemas whose tables the statements lock."""
    lock_namespace: str
    """The prefix of the names of advisory locks. All clients of the same tables have the same prefix."""

    def __init__(
        self, settings: PostgresSettings, schema: str, max_connections: int, monitor: ServerMonitor | None = None
    ) -> None:
        """Prepare a pool for a schema. Datastores on the same server share a monitor."""
        super().__init__("", "", "", "", "", schema=schema, originator_id_type="text")
        self.settings = settings
        self.schemas_in_use = (schema,)
        self.lock_namespace = schema
        self.parameters = connection_parameters(settings)
        self.location = describe_location(settings, schema)
        self.process_id = os.getpid()
        self.is_closed = False
        self._lock_timeout_ms = max(round(settings.timeout_seconds * 1000), 1)  # 0 would disable the timeout
        self.monitor = monitor or ServerMonitor(self.parameters, settings.timeout_seconds)
        self.pool = Pool(self.parameters, max_connections, settings.timeout_seconds, self._configure)

    def register_type_adapters(self) -> None:
        """Register none: the statements use no custom types."""

    def format_sql(self, statement: str, **names: str) -> Composed:
        """Return a statement with `{schema}` and other names replaced by quoted identifiers."""
        return SQL(statement).format(  # pyright: ignore[reportArgumentType] - never user input
            schema=Identifier(self.schema), **{key: Identifier(name) for key, name in names.items()}
        )

    @contextmanager
    def transaction(self, *, commit: bool = False) -> Generator[Cursor[DictRow]]:
        """Start a transaction for the library, with rows as mappings."""
        with (
            self.transaction_for("write" if commit else "read") as connection,
            connection.cursor(row_factory=dict_row) as c,
        ):
            yield c

    @contextmanager
    def transaction_for(
        self, mode: TransactionMode, begin_sql: str = "", end_sql: str = ""
    ) -> Generator[MonitoredConnection]:
        """Start a transaction on a connection of the pool. A write transaction is committed at the end.

        `begin_sql` and `end_sql` are executed in the same round trips as BEGIN and COMMIT. Raise LedgerUnavailable,
        DatabasePermissionDenied, or the library's IntegrityError.
        """
        with self.prepared_transaction(mode, lambda connection, _: connection, begin_sql, end_sql) as connection:
            yield connection

    @contextmanager
    def prepared_transaction(
        self,
        mode: TransactionMode,
        prepare: Prepare[Result],
        begin_sql: str = "",
        end_sql: str = "",
    ) -> Generator[Result]:
        """Start a transaction and yield the result of `prepare`, which is called again if the connection was lost.

        It receives the connection and the rows of the last statement of `begin_sql`.
        """
        if mode == "statement" and not self.settings.prepared_statements:
            mode = "read"  # only a transaction has a lock timeout then, see _configure
        with translate_errors(self.location):
            connection, result = self._begin_transaction(mode, prepare, begin_sql)
            try:
                yield result
                if mode == "read" or connection.reads_after_commit:
                    connection.end_read()
                elif mode == "write":
                    if end_sql:
                        connection.execute(f"{end_sql}; COMMIT".encode())
                    else:
                        connection.execute("COMMIT")
                        connection.end_pipeline()
            except BaseException as error:
                self._fail(connection, error)
                raise
            finally:
                self.release(connection)

    def run_in_transaction(
        self, mode: TransactionMode, work: Callable[[Connection[Any]], Result], begin_sql: str = ""
    ) -> Result:
        """Call `work`, which must be idempotent, in a transaction. Retry if the connection is lost."""

        def attempt() -> Result:
            with self.transaction_for(mode, begin_sql) as connection:
                return work(connection)

        return self.retry_transient(attempt)

    def retry_transient(self, work: Callable[[], Result], errors: type[TransientError] = TransientError) -> Result:
        """Call `work`, which must be idempotent. Retry transient errors until the timeout of the settings.

        Raise the last of the errors. ReadOnlyServer can be retried even if `work` is not idempotent.
        """
        return Retrying(
            retry=retry_if_exception_type(errors),
            stop=stop_after_delay(self.settings.timeout_seconds),
            wait=wait_random_exponential(multiplier=_INITIAL_RETRY_DELAY_SECONDS, max=_MAX_RETRY_DELAY_SECONDS),
            reraise=True,
        )(work)

    def select(
        self,
        statement: SQL | Composed,
        params: Sequence[object] | Mapping[str, object] = (),
        *,
        binary: bool = False,
    ) -> list[Any]:
        """Return the rows of one statement as tuples."""

        def fetch_rows(connection: Connection[Any]) -> list[Any]:
            with connection.cursor(row_factory=tuple_row, binary=binary) as cursor:
                return cursor.execute(statement, params).fetchall()

        return self.run_in_transaction("statement", fetch_rows)

    @contextmanager
    def dedicated_connection(self) -> Generator[Connection[Any]]:
        """Open a connection outside the pool, for long operations that wait. The pool stays free for queries.

        An open transaction is rolled back at the end. A server releases the locks of a connection that was only closed
        when it notices that, after this process may have tried to take them again.
        """
        require_owner_process(self.process_id)
        with translate_errors(self.location), closing(self.connect()) as connection:
            try:
                yield connection
            finally:
                if connection.info.transaction_status == TransactionStatus.INTRANS:
                    with suppress(psycopg.Error):
                        connection.rollback()

    def connect(self) -> MonitoredConnection:
        """Open a connection outside the pool. Raise psycopg's errors."""
        try:
            connection = MonitoredConnection.connect(**self.parameters)
        except psycopg.errors.ConnectionTimeout:
            self.monitor.lost_at = time.monotonic()
            raise
        try:
            self._configure(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def check_connection(self) -> None:
        """Raise LedgerUnavailable at once if the server refuses connections. A pool would retry until the timeout.

        Wait for a server that is starting, shutting down or recovering.
        """

        def check() -> None:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                error_class = TransientError if is_starting(error) else LedgerUnavailable
                raise error_class(f"PostgreSQL on {self.location}: {describe(error)}.") from error

        self.retry_transient(check)

    def close(self) -> None:
        """Close the connections. In a forked process, leave those of the parent process open."""
        pool = getattr(self, "pool", None)  # the library also closes datastores that were never opened
        self.is_closed = True
        if pool is not None and os.getpid() == getattr(self, "process_id", None):
            pool.close()

    def acquire(self, timeout: float) -> MonitoredConnection:
        """Borrow a connection for one transaction."""
        self.pool.open()
        return self.pool.getconn(timeout)

    def release(self, connection: MonitoredConnection) -> None:
        """Return a connection to the pool."""
        self.pool.putconn(connection)

    def begin_statements(self, mode: TransactionMode) -> Sequence[str]:
        """Return the statements that begin a transaction and limit its waits."""
        return *_BEGIN_SQL[mode], f"SET LOCAL lock_timeout = {self._lock_timeout_ms}"

    def _begin_transaction(
        self, mode: TransactionMode, prepare: Prepare[Result], begin_sql: str
    ) -> tuple[MonitoredConnection, Result]:
        """Return a connection with a new transaction. Lost connections are discarded."""
        require_owner_process(self.process_id)
        if self.is_closed:
            raise LedgerUnavailable(LEDGER_CLOSED)
        deadline = time.monotonic() + self.settings.timeout_seconds
        statement = "; ".join(self.begin_statements(mode))
        while True:
            connection = self._acquire_reachable(deadline)
            rows = connection.cursor()
            try:
                if mode != "statement":
                    is_limited = mode == "write" and connection.info.server_version >= MIN_VERSION_TRANSACTION_TIMEOUT
                    limit = f"SET LOCAL transaction_timeout = '{TRANSACTION_TIMEOUT_SECONDS}s'" if is_limited else ""
                    rows.execute(f"{statement}; {limit}; {begin_sql}".encode())
                    rows.set_result(-1)
                return connection, prepare(connection, rows)
            except BaseException as error:
                is_gone = connection.closed
                try:
                    self._fail(connection, error)
                finally:
                    self.release(connection)
                if not (isinstance(error, (psycopg.Error, ConnectionLost)) and is_gone and time.monotonic() < deadline):
                    raise

    def _acquire_reachable(self, deadline: float) -> MonitoredConnection:
        """Borrow a connection that was opened after one was last found to be lost."""
        while True:
            connection = self.acquire(max(deadline - time.monotonic(), 0.001))
            if connection.opened_at > self.monitor.lost_at:
                return connection
            connection.close()
            self.release(connection)

    def _configure(self, connection: MonitoredConnection) -> None:
        """Limit the waits of a new connection for the server and for locks.

        A statement outside a transaction is one of several of a query, and waits half as long for a lock.
        """
        connection.monitor = self.monitor
        if self.settings.prepared_statements:  # otherwise a pooler would share the setting with other clients
            connection.execute(f"SET lock_timeout = {max(self._lock_timeout_ms // 2, 1)}".encode())

    def _fail(self, connection: MonitoredConnection, error: BaseException) -> None:
        """Roll back after an error. Raise LockTimeout, with what holds the lock, if the error is a lock timeout.

        A connection to a read-only server is closed, because after a failover it would stay read-only.
        """
        _roll_back(connection)
        if is_read_only(error):
            connection.close()
        elif is_lock_timeout(error) and not connection.closed:
            holders = describe_lock_holders(connection, self.schemas_in_use)
            raise lock_timeout_error(self.location, error.__cause__ or error, holders) from error


def _roll_back(connection: MonitoredConnection) -> None:
    connection.reads_after_commit = False
    try:
        with suppress(psycopg.Error):  # the error is known
            connection.end_pipeline()
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()  # the connection is lost or unusable
