"""PostgreSQL connections: a pool of limited size, transactions, and retries after a lost connection."""

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import eventsourcing.postgres
import psycopg
from psycopg import Connection, Cursor
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row, tuple_row
from psycopg.sql import SQL, Composed, Identifier
from psycopg_pool import ConnectionPool
from pydantic import SecretStr
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from ....domain.errors import LedgerUnavailable
from ...uuid7 import uuid7
from ..forks import require_owner_process
from ..ports import LEDGER_CLOSED, TransientError
from .errors import ConnectFailed, ConnectionLost, translate_errors
from .settings import PostgresSettings
from .url_parameters import require_known_parameters, require_valid_port, unparsable_url

Result = TypeVar("Result")
TransactionMode = Literal["statement", "read", "write"]

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
_INITIAL_RETRY_DELAY_SECONDS, _MAX_RETRY_DELAY_SECONDS = 0.01, 1
_BEGIN_SQL: dict[TransactionMode, str] = {
    "statement": "",  # autocommit
    # All statements read one consistent state.
    "read": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = "
    f"'{TRANSACTION_TIMEOUT_SECONDS}s'",
    # Each statement sees everything that was committed before the locks it waited for were released.
    "write": "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = "
    f"'{IDLE_TIMEOUT_SECONDS}s'",
}


class PostgresDatastore(eventsourcing.postgres.PostgresDatastore):
    """One schema of a PostgreSQL database, and a pool of connections to it.

    If a connection turns out to be lost when a transaction starts, another one is used, until the timeout of the
    settings. A connection that is lost inside a transaction raises ConnectionLost: the transaction was rolled back,
    unless the connection was lost during its commit.
    """

    is_temporary = False
    lock_namespace: str
    """The prefix of the names of advisory locks. All clients of the same tables have the same prefix."""

    def __init__(self, settings: PostgresSettings, schema: str, max_connections: int) -> None:
        super().__init__("", "", "", "", "", schema=schema, originator_id_type="text")
        self.settings = settings
        self.lock_namespace = schema
        self.parameters = _connection_parameters(settings)
        self.location = describe_location(settings, schema)
        self.process_id = os.getpid()
        self.is_closed = False
        self.pool = _Pool(self.parameters, max_connections, settings.timeout_seconds)

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
    ) -> Generator[Connection[Any]]:
        """Start a transaction on a connection of the pool. A write transaction is committed at the end.

        `begin_sql` and `end_sql` are executed in the same round trips as BEGIN and COMMIT. Raise LedgerUnavailable,
        DatabasePermissionDenied, or the library's IntegrityError.
        """
        with self.prepared_transaction(mode, lambda connection: connection, begin_sql, end_sql) as connection:
            yield connection

    @contextmanager
    def prepared_transaction(
        self,
        mode: TransactionMode,
        prepare: Callable[[Connection[Any]], Result],
        begin_sql: str = "",
        end_sql: str = "",
    ) -> Generator[Result]:
        """Start a transaction and yield the result of `prepare`, which is called again if the connection was lost."""
        with translate_errors(self.location):
            connection, result = self._begin_transaction(mode, prepare, begin_sql)
            try:
                yield result
                statement = f"{end_sql}; {_END_SQL[mode]}" if end_sql and mode == "write" else _END_SQL[mode]
                if statement:
                    connection.execute(statement.encode())
            except BaseException:
                _roll_back(connection)
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

    def retry_transient(self, work: Callable[[], Result]) -> Result:
        """Call `work`, which must be idempotent. Retry transient errors until the timeout of the settings.

        Raise the last TransientError.
        """
        return Retrying(
            retry=retry_if_exception_type(TransientError),
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
        """Open a connection outside the pool, for long operations that wait. The pool stays free for queries."""
        require_owner_process(self.process_id)
        with translate_errors(self.location):
            connection = psycopg.connect(**self.parameters)
            try:
                yield connection
            finally:
                connection.close()

    def close(self) -> None:
        """Close the connections. In a forked process, leave those of the parent process open."""
        pool = getattr(self, "pool", None)  # the library also closes datastores that were never opened
        self.is_closed = True
        if pool is not None and os.getpid() == getattr(self, "process_id", None):
            pool.close()

    def acquire(self, timeout: float) -> Connection[Any]:
        """Borrow a connection for one transaction."""
        self.pool.open()
        return self.pool.getconn(timeout)

    def release(self, connection: Connection[Any]) -> None:
        """Return a connection to the pool."""
        self.pool.putconn(connection)

    def _begin_transaction(
        self, mode: TransactionMode, prepare: Callable[[Connection[Any]], Result], begin_sql: str
    ) -> tuple[Connection[Any], Result]:
        """Return a connection with a new transaction. Lost connections are discarded."""
        require_owner_process(self.process_id)
        if self.is_closed:
            raise LedgerUnavailable(LEDGER_CLOSED)
        deadline = time.monotonic() + self.settings.timeout_seconds
        timeout = max(round(self.settings.timeout_seconds * 1000), 1)  # 0 would disable the timeout
        statement = f"{_BEGIN_SQL[mode]}; SET LOCAL lock_timeout = {timeout}"
        while True:
            connection = self.acquire(max(deadline - time.monotonic(), 0.001))
            try:
                if mode != "statement":
                    is_limited = mode == "write" and connection.info.server_version >= MIN_VERSION_TRANSACTION_TIMEOUT
                    limit = f"SET LOCAL transaction_timeout = '{TRANSACTION_TIMEOUT_SECONDS}s'" if is_limited else ""
                    connection.execute(f"{statement}; {limit}; {begin_sql}".encode())
                return connection, prepare(connection)
            except BaseException as error:
                is_gone = connection.closed
                _roll_back(connection)
                self.release(connection)
                if not (isinstance(error, (psycopg.Error, ConnectionLost)) and is_gone and time.monotonic() < deadline):
                    raise


class SingleConnectionDatastore(PostgresDatastore):
    """A datastore with a single connection, for temporary tables. They are dropped when the connection ends."""

    is_temporary = True

    def __init__(self, settings: PostgresSettings) -> None:
        super().__init__(settings, "pg_temp", 1)
        with translate_errors(self.location):
            self._connection = psycopg.connect(**self.parameters)
        self.lock_namespace = f"{self.schema} {uuid7()}"  # no other connection sees these tables

    def acquire(self, timeout: float) -> Connection[Any]:  # noqa: ARG002 - the connection exists already
        """Return the connection. Another connection would not have the tables."""
        if self._connection.closed:
            raise LedgerUnavailable(f"PostgreSQL on {self.location}: the connection was lost. Try again.")
        return self._connection

    def release(self, connection: Connection[Any]) -> None:
        """Do nothing: the connection stays open."""

    def close(self) -> None:
        """Close the connection, which drops the tables. In a forked process, leave it open for the parent process."""
        super().close()
        connection: Connection[Any] | None = getattr(self, "_connection", None)
        if connection is not None and os.getpid() == self.process_id:
            connection.close()


class _Pool(ConnectionPool[Connection[Any]]):
    """A pool that opens connections on demand and reports why one cannot be opened."""

    def __init__(self, parameters: Mapping[str, Any], max_connections: int, timeout_seconds: float) -> None:
        self.last_connect_error: Exception | None = None
        super().__init__(
            kwargs=dict(parameters),
            min_size=0,
            max_size=max_connections,
            open=False,
            timeout=timeout_seconds,
            reconnect_timeout=timeout_seconds,
            num_workers=1,
            name="tallybook",
        )

    def getconn(self, timeout: float | None = None) -> Connection[Any]:
        """Return a connection. Raise ConnectFailed with the reason if none can be opened."""
        try:
            return super().getconn(timeout)
        except psycopg.OperationalError:
            connect_error, self.last_connect_error = self.last_connect_error, None
            if connect_error is not None:
                raise ConnectFailed(f"no connection can be opened: {connect_error}") from connect_error
            raise

    def _connect(self, timeout: float | None = None) -> Connection[Any]:
        try:
            connection = super()._connect(timeout)
        except psycopg.Error as error:
            self.last_connect_error = error
            raise
        self.last_connect_error = None
        return connection


def _connection_parameters(settings: PostgresSettings) -> dict[str, Any]:
    """Return the parameters of every connection. Raise InvalidLedgerUrl."""
    require_known_parameters(settings)
    try:
        parameters: dict[str, Any] = dict(conninfo_to_dict(settings.url.get_secret_value()))
        for key, value in settings.parameters.items():
            parameters[key] = value.get_secret_value() if isinstance(value, SecretStr) else value
        make_conninfo("", **parameters)
    except psycopg.Error:  # its message contains parts of the URL
        raise unparsable_url(settings.url.get_secret_value()) from None
    require_valid_port(parameters.get("port", ""))
    defaults = {"application_name": "tallybook", "connect_timeout": max(round(settings.timeout_seconds), 2)}
    prepare_options = {} if settings.prepared_statements else {"prepare_threshold": None}
    # Overrides the settings of the role and the environment: other encodings cannot represent every text.
    return {**defaults, **parameters, **prepare_options, "client_encoding": "UTF8", "autocommit": True}


def describe_location(settings: PostgresSettings, schema: str) -> str:
    """Return the database and the schema for messages, without a password."""
    parameters = _connection_parameters(settings)
    name = str(parameters.get("dbname") or "by default")
    database = "by a URL of its own" if set("=/") & set(name) else repr(name)  # the name may contain a password
    host = parameters.get("host") or parameters.get("hostaddr") or "the local server"
    return f"{host}, database {database}, schema {schema!r}"


_END_SQL: dict[TransactionMode, str] = {"statement": "", "read": "ROLLBACK", "write": "COMMIT"}


def _roll_back(connection: Connection[Any]) -> None:
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()  # the connection is lost or unusable
