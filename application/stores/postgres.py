"""PostgreSQL connections as this project needs them: from a pool of limited size, retried where they were lost."""

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
from uuid_utils import uuid7

from ...domain.errors import LedgerUnavailable
from .postgres_errors import ConnectionLost, NoConnection, translated
from .postgres_settings import PostgresSettings, refused_url
from .store import CLOSED, TransientFailure

Answer = TypeVar("Answer")
Mode = Literal["statement", "read", "write"]

IDLE_SECONDS = 60
"""A program that stops in the middle of writing is in nobody's way for longer than this."""
LONGEST_SECONDS = 600
"""Nor is one for longer than this that stops in the middle of sending, which to the server isn't idle; or of reading,
which keeps tables from being dropped."""
TELLS_LONG_TRANSACTIONS = 17_00_00
"""The first version of the server that has a limit on transactions of its own."""
DURABLE = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
"""What is acknowledged is on the server's disk, whatever the server, the database or the user is set to."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 1
_BEGIN: dict[Mode, str] = {
    "statement": "",  # one statement is a transaction by itself
    # One consistent state, however many statements read it.
    "read": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = "
    f"'{LONGEST_SECONDS}s'",
    # Each statement sees all that was committed before the locks that it waited for were let go.
    "write": f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'",
}


class Datastore(eventsourcing.postgres.PostgresDatastore):
    """One schema of a PostgreSQL database, and some connections to it.

    A connection that was lost is found out when a transaction begins, and another one is taken, for as long as the
    settings say. What was lost in the middle of a transaction is told as ConnectionLost: nothing of it was stored,
    unless it was being committed.
    """

    is_temporary = False
    locks: str
    """What the numbers of advisory locks are made of: others who work on the same tables have the same."""

    def __init__(self, settings: PostgresSettings, schema: str, max_connections: int) -> None:
        super().__init__("", "", "", "", "", schema=schema, originator_id_type="text")
        self.settings = settings
        self.locks = schema
        self.parameters = _parameters(settings)
        self.place = place_of(settings, schema)
        self.process = os.getpid()
        self.is_closed = False
        self.pool = _Pool(self.parameters, max_connections, settings.timeout_seconds)

    def register_type_adapters(self) -> None:
        """Our statements need no types of their own in the database."""

    def named(self, statement: str, **names: str) -> Composed:
        """A statement about this schema: `{schema}`, and other names."""
        return SQL(statement).format(  # pyright: ignore[reportArgumentType] - ours, never given from outside
            schema=Identifier(self.schema), **{key: Identifier(name) for key, name in names.items()}
        )

    @contextmanager
    def transaction(self, *, commit: bool = False) -> Generator[Cursor[DictRow]]:
        """A transaction as the library uses it, with rows as mappings."""
        with self.session("write" if commit else "read") as connection, connection.cursor(row_factory=dict_row) as c:
            yield c

    @contextmanager
    def session(self, mode: Mode, first: str = "", last: str = "") -> Generator[Connection[Any]]:
        """A transaction on a connection of the pool; committed at the end if it is to write.

        `first` and `last` are statements that go with its beginning and its end. Raises LedgerUnavailable,
        NotPermitted, or the library's IntegrityError.
        """
        with self.prepared(mode, lambda connection: connection, first, last) as connection:
            yield connection

    @contextmanager
    def prepared(
        self, mode: Mode, prepare: Callable[[Connection[Any]], Answer], first: str = "", last: str = ""
    ) -> Generator[Answer]:
        """A transaction, and what `prepare` makes of it, which is asked again where a connection turns out lost."""
        with translated(self.place):
            connection, answer = self._begun(mode, prepare, first)
            try:
                yield answer
                end = f"{last}; {_END[mode]}" if last and mode == "write" else _END[mode]
                if end:
                    connection.execute(end.encode())
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self.release(connection)

    def attempt(self, mode: Mode, work: Callable[[Connection[Any]], Answer], first: str = "") -> Answer:
        """Do what can be done again without harm in a transaction of its own, again where it was lost."""

        def attempted() -> Answer:
            with self.session(mode, first) as connection:
                return work(connection)

        return self.persist(attempted)

    def persist(self, work: Callable[[], Answer]) -> Answer:
        """Do what can be done again without harm; again where it failed for a moment, for as long as the settings say.

        Raises the TransientFailure that it failed by last.
        """
        return Retrying(
            retry=retry_if_exception_type(TransientFailure),
            stop=stop_after_delay(self.settings.timeout_seconds),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS),
            reraise=True,
        )(work)

    def select(
        self,
        statement: SQL | Composed,
        params: Sequence[object] | Mapping[str, object] = (),
        *,
        binary: bool = False,
    ) -> list[Any]:
        """The rows of one statement, as tuples."""

        def fetched(connection: Connection[Any]) -> list[Any]:
            with connection.cursor(row_factory=tuple_row, binary=binary) as cursor:
                return cursor.execute(statement, params).fetchall()

        return self.attempt("statement", fetched)

    @contextmanager
    def outside_the_pool(self) -> Generator[Connection[Any]]:
        """A connection for what takes long and waits: it takes none of those that questions need."""
        with translated(self.place):
            connection = psycopg.connect(**self.parameters)
            try:
                yield connection
            finally:
                connection.close()

    def close(self) -> None:
        """Let the connections go. Those of the process that this one was forked from are left alone."""
        pool = getattr(self, "pool", None)  # the library closes also what was never opened
        self.is_closed = True
        if pool is not None and os.getpid() == getattr(self, "process", None):
            pool.close()

    def acquire(self, timeout: float) -> Connection[Any]:
        """A connection, for one transaction."""
        self.pool.open()
        return self.pool.getconn(timeout)

    def release(self, connection: Connection[Any]) -> None:
        """Give a connection back."""
        self.pool.putconn(connection)

    def _begun(
        self, mode: Mode, prepare: Callable[[Connection[Any]], Answer], first: str
    ) -> tuple[Connection[Any], Answer]:
        """A connection in a transaction that has just begun; lost ones, which this finds out, are let go."""
        if os.getpid() != self.process:
            raise LedgerUnavailable("The ledger was opened before this process was forked: each process opens its own.")
        if self.is_closed:
            raise LedgerUnavailable(CLOSED)
        deadline = time.monotonic() + self.settings.timeout_seconds
        timeout = max(round(self.settings.timeout_seconds * 1000), 1)  # none at all would be for ever
        statement = f"{_BEGIN[mode]}; SET LOCAL lock_timeout = {timeout}"
        while True:
            connection = self.acquire(max(deadline - time.monotonic(), 0.001))
            try:
                if mode != "statement":
                    is_limited = mode == "write" and connection.info.server_version >= TELLS_LONG_TRANSACTIONS
                    limit = f"SET LOCAL transaction_timeout = '{LONGEST_SECONDS}s'" if is_limited else ""
                    connection.execute(f"{statement}; {limit}; {first}".encode())
                return connection, prepare(connection)
            except BaseException as error:
                is_gone = connection.closed
                _roll_back(connection)
                self.release(connection)
                if not (isinstance(error, (psycopg.Error, ConnectionLost)) and is_gone and time.monotonic() < deadline):
                    raise


class OneConnection(Datastore):
    """What lies on one connection alone: temporary tables, which are gone when it is, however it ends."""

    is_temporary = True

    def __init__(self, settings: PostgresSettings) -> None:
        super().__init__(settings, "pg_temp", 1)
        with translated(self.place):
            self._connection = psycopg.connect(**self.parameters)
        self.locks = f"{self.schema} {uuid7()}"  # nobody else sees these tables

    def acquire(self, timeout: float) -> Connection[Any]:  # noqa: ARG002 - it is there already
        """The connection. Another one would not have the tables."""
        if self._connection.closed:
            raise LedgerUnavailable(f"PostgreSQL on {self.place}: the connection was lost. Try again.")
        return self._connection

    def release(self, connection: Connection[Any]) -> None:
        """It is kept."""

    def close(self) -> None:
        """Let the connection go, and the tables with it."""
        super().close()
        connection: Connection[Any] | None = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()


class _Pool(ConnectionPool[Connection[Any]]):
    """Connections that are made when they are needed. One that can't be made says why."""

    def __init__(self, parameters: Mapping[str, Any], max_connections: int, timeout_seconds: float) -> None:
        self.why_not: Exception | None = None
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
        """A connection of the pool; the reason why none can be made, where that is why there is none."""
        try:
            return super().getconn(timeout)
        except psycopg.OperationalError:
            why, self.why_not = self.why_not, None
            if why is not None:
                raise NoConnection(f"no connection can be made: {why}") from why
            raise

    def _connect(self, timeout: float | None = None) -> Connection[Any]:
        try:
            connection = super()._connect(timeout)
        except psycopg.Error as error:
            self.why_not = error
            raise
        self.why_not = None
        return connection


def _parameters(settings: PostgresSettings) -> dict[str, Any]:
    """What every connection is made with. Raises InvalidLedgerUrl."""
    try:
        parameters: dict[str, Any] = dict(conninfo_to_dict(settings.url.get_secret_value()))
        for key, value in settings.parameters.items():
            parameters[key] = value.get_secret_value() if isinstance(value, SecretStr) else value
        make_conninfo("", **parameters)
    except psycopg.Error as error:
        raise refused_url(" ".join(str(error).split())) from None  # which may hold a password
    by_default = {"application_name": "tallybook", "connect_timeout": max(round(settings.timeout_seconds), 2)}
    preparing = {} if settings.prepared_statements else {"prepare_threshold": None}
    # Whatever the user's own setting is, or the environment's: not every text can be written in another encoding.
    return {**by_default, **parameters, **preparing, "client_encoding": "UTF8", "autocommit": True}


def place_of(settings: PostgresSettings, schema: str) -> str:
    """The database and the schema, for messages: without a password."""
    parameters = _parameters(settings)
    name = str(parameters.get("dbname") or "by default")
    database = "by a URL of its own" if set("=/") & set(name) else repr(name)  # there may be a password in it
    host = parameters.get("host") or parameters.get("hostaddr") or "the local server"
    return f"{host}, database {database}, schema {schema!r}"


_END: dict[Mode, str] = {"statement": "", "read": "ROLLBACK", "write": "COMMIT"}


def _roll_back(connection: Connection[Any]) -> None:
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()  # it is lost, or in no state to be used again
