"""What is kept beside a ledger's events on PostgreSQL: a table in the same schema."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import Connection
from psycopg.rows import tuple_row
from psycopg.sql import Composed

from ...domain.errors import LedgerUnavailable, NotALedger, NotPermitted
from .kept import AlreadyKept, KeptRow, check, last_of_each, ordered
from .postgres import DURABLE, TELLS_LONG_TRANSACTIONS, Datastore
from .postgres_schema import OURS, lock_number, tables_in
from .store import TransientFailure

_STATEMENTS = (
    """CREATE TABLE {schema}.kept (
        kind TEXT COLLATE "C" NOT NULL,
        key TEXT COLLATE "C" NOT NULL,
        at BIGINT NOT NULL,
        body BYTEA NOT NULL,
        PRIMARY KEY (kind, key)
    )""",
    "CREATE INDEX kept_by_time ON {schema}.kept (kind, at, key)",
    f"COMMENT ON TABLE {{schema}}.kept IS '{OURS}'",
)
_INSERT = (
    "INSERT INTO {schema}.kept (kind, key, at, body)"
    " SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bytea[])"
)
_PUT = f"{_INSERT} ON CONFLICT (kind, key) DO UPDATE SET at = excluded.at, body = excluded.body"
_ADD = f"{_INSERT} ON CONFLICT DO NOTHING"
_REMOVE = (
    "DELETE FROM {schema}.kept USING unnest(%b::text[], %b::text[]) AS gone (kind, key)"
    " WHERE kept.kind = gone.kind AND kept.key = gone.key"
)
_FIND = (
    "SELECT kept.* FROM {schema}.kept JOIN unnest(%b::text[], %b::text[]) AS wanted (kind, key)"
    " ON kept.kind = wanted.kind AND kept.key = wanted.key"
)
_REMOVE_UNTIL = (
    "DELETE FROM {schema}.kept WHERE kind = %s AND key IN (SELECT key FROM {schema}.kept"
    " WHERE kind = %s AND at <= %s ORDER BY at, key LIMIT %s FOR UPDATE SKIP LOCKED)"
)
Place = tuple[str, str]


class PostgresKeeper:
    """The rows that are kept beside the events of a ledger on PostgreSQL. The table is made where there is none."""

    def __init__(self, store: Datastore) -> None:
        self.store = store
        if not store.attempt("read", self._is_there):
            try:
                store.attempt("write", self._make)
            except NotPermitted as error:
                raise NotPermitted(
                    f"PostgreSQL on {store.place}: there is no table 'kept' yet, and this user may not make it. Let "
                    "the ledger's owner call Metering.keeper() once, and grant this user SELECT, INSERT, UPDATE and "
                    "DELETE on it."
                ) from error

    def get(self, kind: str, keys: Sequence[str]) -> dict[str, KeptRow]:
        """Those of the rows of `keys` that are there, by key."""
        check(kind, keys)
        return {row.key: row for row in self._rows("kind = %s AND key = ANY(%s)", (kind, list(keys)))}

    def select(self, kind: str, *, after: str | None = None, limit: int, newest_first: bool = False) -> list[KeptRow]:
        """Up to `limit` rows by key, after the key `after`; or backwards by key, before it."""
        check(kind, () if after is None else (after,))
        beyond = "" if after is None else f"AND key {'<' if newest_first else '>'} %s"
        order = "DESC" if newest_first else ""
        given = () if after is None else (after,)
        return self._rows(f"kind = %s {beyond} ORDER BY key {order} LIMIT %s", (kind, *given, limit))

    def due(self, kind: str, until: int, limit: int) -> list[KeptRow]:
        """Up to `limit` of the rows whose `at` is no later than `until`, oldest first."""
        check(kind)
        return self._rows("kind = %s AND at <= %s ORDER BY at, key LIMIT %s", (kind, until, limit))

    def change(
        self,
        *,
        add: Sequence[KeptRow] = (),
        put: Sequence[KeptRow] = (),
        remove: Sequence[Place] = (),
    ) -> None:
        """In one transaction take away, then add, then put. Raises AlreadyKept, with nothing changed.

        Where the connection is lost while it is being committed, the rows are looked at.
        """
        for kind, key in remove:
            check(kind, (key,))
        added, replaced = ordered(add), last_of_each(put)
        wanted: dict[Place, KeptRow | None] = dict.fromkeys(remove)
        wanted.update(((row.kind, row.key), row) for row in (*added, *replaced))

        def changed() -> None:
            is_all_sent = False
            try:
                with self.store.session("write", DURABLE) as connection:
                    self._execute(connection, _REMOVE, remove)
                    self.insert(connection, added)
                    self._execute(connection, _PUT, replaced)
                    is_all_sent = True
            except TransientFailure:
                if not is_all_sent or not self._holds(wanted):
                    raise

        if wanted:
            self.store.persist(changed)

    def insert(self, connection: Connection[Any], rows: Sequence[KeptRow]) -> None:
        """Add rows inside a transaction. Raises AlreadyKept."""
        if self._execute(connection, _ADD, rows) < len(rows):
            raise AlreadyKept("One of the rows to add is kept already.")

    def remove_until(self, kind: str, until: int, limit: int) -> int:
        """Take away up to `limit` of the oldest rows whose `at` is no later than `until`; give how many."""
        check(kind)
        statement = self.store.named(_REMOVE_UNTIL)

        def removed(connection: Connection[Any]) -> int:
            return connection.execute(statement, (kind, kind, until, limit)).rowcount

        return self.store.attempt("write", removed)

    @contextmanager
    def alone(self, doing: str) -> Generator[bool]:
        """Be the only one who does `doing` meanwhile, by an advisory lock; gives whether one is."""
        with self.store.outside_the_pool() as connection:
            connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
            if connection.info.server_version >= TELLS_LONG_TRANSACTIONS:
                connection.execute("SET LOCAL transaction_timeout = 0")
            number = lock_number(self.store.locks, f"alone {doing}")
            yield connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (number,)).fetchone() == (True,)

    def _holds(self, wanted: dict[Place, KeptRow | None]) -> bool:
        """Whether rows are as they were to be, after their connection was lost while they were being committed.

        With the table locked nobody is still about to change them.
        """
        statement, places = self.store.named(_FIND), list(map(list, zip(*wanted, strict=True)))

        def found(connection: Connection[Any]) -> dict[Place, KeptRow]:
            with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
                rows = map(KeptRow._make, cursor.execute(statement, places).fetchall())
                return {(row.kind, row.key): row for row in rows}

        lock = self.store.named("LOCK TABLE {schema}.kept IN SHARE MODE").as_string()
        try:
            return self.store.attempt("write", found, lock) == {at: row for at, row in wanted.items() if row}
        except LedgerUnavailable as error:
            raise LedgerUnavailable(
                f"PostgreSQL on {self.store.place}: the connection was lost, and whether what was to be kept is stored "
                "isn't known. Look at it, and change it again."
            ) from error

    def _execute(self, connection: Connection[Any], statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Execute a statement that takes an array for each column; give how many rows it is about."""
        if not rows:
            return 0
        return connection.execute(self.store.named(statement), list(map(list, zip(*rows, strict=True)))).rowcount

    def _rows(self, where: str, params: Sequence[object]) -> list[KeptRow]:
        statement: Composed = self.store.named(f"SELECT kind, key, at, body FROM {{schema}}.kept WHERE {where}")
        return list(map(KeptRow._make, self.store.select(statement, params, binary=True)))

    def _is_there(self, connection: Connection[Any]) -> bool:
        """Whether the table is there. Raises NotALedger where it is somebody else's."""
        comment = tables_in(connection, self.store).get("kept")
        if comment not in (None, OURS):
            raise NotALedger(
                f"PostgreSQL on {self.store.place}: there is a table 'kept' that is none of Tallybook's. Give another "
                "schema.",
                field="url",
            )
        return comment is not None

    def _make(self, connection: Connection[Any]) -> None:
        """Make the table, unless somebody else was faster: one at a time does."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(self.store.locks, "making"),))
        if not self._is_there(connection):
            for statement in _STATEMENTS:
                connection.execute(self.store.named(statement))
