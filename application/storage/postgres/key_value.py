"""The key-value store of a PostgreSQL ledger: a table in the ledger's schema."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from psycopg import Connection
from psycopg.rows import tuple_row

from ....domain.errors import DatabasePermissionDenied, LedgerUnavailable, NotALedger
from ..key_value import EntryExists, EntryKey, KeyValueEntry, deduplicate, sorted_for_writing, validate
from ..ports import TransientError
from ..sql_key_value import SqlKeyValueStore
from .connection import FORCE_SYNCHRONOUS_COMMIT, MIN_VERSION_TRANSACTION_TIMEOUT, PostgresDatastore
from .ledger_schema import KEY_VALUE_STATEMENTS
from .schema import OWNER_COMMENT, advisory_lock_key, list_tables

_INSERT = (
    "INSERT INTO {schema}.key_values (kind, key, at, body)"
    " SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bytea[])"
)
_UPSERT = f"{_INSERT} ON CONFLICT (kind, key) DO UPDATE SET at = excluded.at, body = excluded.body"
_INSERT_IF_ABSENT = f"{_INSERT} ON CONFLICT DO NOTHING"
_DELETE = (
    "DELETE FROM {schema}.key_values USING unnest(%b::text[], %b::text[]) AS deleted (kind, key)"
    " WHERE key_values.kind = deleted.kind AND key_values.key = deleted.key"
)
_SELECT_BY_KEYS = (
    "SELECT key_values.* FROM {schema}.key_values JOIN unnest(%b::text[], %b::text[]) AS wanted (kind, key)"
    " ON key_values.kind = wanted.kind AND key_values.key = wanted.key"
)
_DELETE_DUE = (
    "DELETE FROM {schema}.key_values WHERE kind = %s AND key IN (SELECT key FROM {schema}.key_values"
    " WHERE kind = %s AND at <= %s ORDER BY at, key LIMIT %s FOR UPDATE SKIP LOCKED)"
)


class PostgresKeyValueStore(SqlKeyValueStore):
    """The key-value entries of a PostgreSQL ledger. The table is created if it does not exist."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        self.datastore = datastore
        if not self.exists(datastore):
            try:
                datastore.run_in_transaction("write", self._create_table)
            except DatabasePermissionDenied as error:
                raise DatabasePermissionDenied(
                    f"PostgreSQL on {datastore.location}: the table 'key_values' does not exist, and this role may not "
                    "create it. Let the ledger's owner call Metering.key_value_store() once, and grant this role "
                    "SELECT, INSERT, UPDATE and DELETE on the table."
                ) from error

    @classmethod
    def exists(cls, datastore: PostgresDatastore) -> bool:
        """Return whether the table exists. Raise NotALedger if it was not created by Tallybook."""
        return datastore.run_in_transaction("read", partial(_table_exists, datastore))

    def get(self, kind: str, keys: Sequence[str]) -> dict[str, KeyValueEntry]:
        """Return the entries with these keys that exist, by key."""
        validate(kind, keys)
        return {entry.key: entry for entry in self.select_entries("kind = ? AND key = ANY(?)", (kind, list(keys)))}

    def apply(
        self,
        *,
        insert: Sequence[KeyValueEntry] = (),
        upsert: Sequence[KeyValueEntry] = (),
        delete: Sequence[EntryKey] = (),
    ) -> None:
        """In one transaction delete, then insert, then upsert. Raise EntryExists, with nothing changed.

        If the connection is lost during the commit, look up whether the entries were stored.
        """
        for kind, key in delete:
            validate(kind, (key,))
        inserted, upserted = sorted_for_writing(insert), deduplicate(upsert)
        expected: dict[EntryKey, KeyValueEntry | None] = dict.fromkeys(delete)
        expected.update(((entry.kind, entry.key), entry) for entry in (*inserted, *upserted))

        def write_entries() -> None:
            is_all_sent = False
            try:
                with self.datastore.transaction_for("write", FORCE_SYNCHRONOUS_COMMIT) as connection:
                    self._execute(connection, _DELETE, delete)
                    self.insert_entries(connection, inserted)
                    self._execute(connection, _UPSERT, upserted)
                    is_all_sent = True
            except TransientError:
                if not is_all_sent or not self._commit_took_effect(expected):
                    raise

        if expected:
            self.datastore.retry_transient(write_entries)

    def insert_entries(self, connection: Connection[Any], entries: Sequence[KeyValueEntry]) -> None:
        """Insert entries inside a transaction. Raise EntryExists if one exists."""
        if self._execute(connection, _INSERT_IF_ABSENT, entries) < len(entries):
            raise EntryExists("A key-value entry to insert exists already.")

    def delete_due_before(self, kind: str, until: int, limit: int) -> int:
        """Delete up to `limit` of the oldest entries with `at` <= `until`, and return how many were deleted."""
        validate(kind)
        statement = self.datastore.format_sql(_DELETE_DUE)

        def delete_rows(connection: Connection[Any]) -> int:
            return connection.execute(statement, (kind, kind, until, limit)).rowcount

        return self.datastore.run_in_transaction("write", delete_rows)

    @contextmanager
    def try_lock(self, name: str) -> Generator[bool]:
        """Try to take an advisory lock, without waiting. Yield whether this process holds it."""
        with self.datastore.dedicated_connection() as connection:
            connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
            if connection.info.server_version >= MIN_VERSION_TRANSACTION_TIMEOUT:
                connection.execute("SET LOCAL transaction_timeout = 0")
            lock_key = advisory_lock_key(self.datastore.lock_namespace, f"alone {name}")
            yield connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (lock_key,)).fetchone() == (True,)

    def _commit_took_effect(self, expected: dict[EntryKey, KeyValueEntry | None]) -> bool:
        """Return whether the entries are as expected, after the connection was lost during their commit.

        Locking the table ensures that the lost transaction is over.
        """
        statement, key_columns = (
            self.datastore.format_sql(_SELECT_BY_KEYS),
            list(map(list, zip(*expected, strict=True))),
        )

        def read_entries(connection: Connection[Any]) -> dict[EntryKey, KeyValueEntry]:
            with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
                entries = map(KeyValueEntry._make, cursor.execute(statement, key_columns).fetchall())
                return {(entry.kind, entry.key): entry for entry in entries}

        lock = self.datastore.format_sql("LOCK TABLE {schema}.key_values IN SHARE MODE").as_string()
        try:
            return self.datastore.run_in_transaction("write", read_entries, lock) == {
                key: entry for key, entry in expected.items() if entry
            }
        except LedgerUnavailable as error:
            raise LedgerUnavailable(
                f"PostgreSQL on {self.datastore.location}: the connection was lost during the commit, and it is "
                "unknown whether the key-value entries are stored. Read them, and change them again if necessary."
            ) from error

    def _execute(self, connection: Connection[Any], statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Execute a statement that takes an array for each column, and return the number of affected rows."""
        if not rows:
            return 0
        return connection.execute(
            self.datastore.format_sql(statement), list(map(list, zip(*rows, strict=True)))
        ).rowcount

    def select_entries(self, condition: str, params: Sequence[object]) -> list[KeyValueEntry]:
        """Return the entries that a condition selects."""
        statement = self.datastore.format_sql(
            f"SELECT kind, key, at, body FROM {{schema}}.key_values WHERE {condition.replace('?', '%s')}"
        )
        return list(map(KeyValueEntry._make, self.datastore.select(statement, params, binary=True)))

    def _create_table(self, connection: Connection[Any]) -> None:
        """Create the table unless another process has. An advisory lock lets one process at a time do so."""
        connection.execute(
            "SELECT pg_advisory_xact_lock(%s)", (advisory_lock_key(self.datastore.lock_namespace, "making"),)
        )
        if not _table_exists(self.datastore, connection):
            for statement in KEY_VALUE_STATEMENTS:
                connection.execute(self.datastore.format_sql(statement))


def _table_exists(datastore: PostgresDatastore, connection: Connection[Any]) -> bool:
    """Return whether the table exists. Raise NotALedger if it was not created by Tallybook."""
    comment = list_tables(connection, datastore).get("key_values")
    if comment not in (None, OWNER_COMMENT):
        raise NotALedger(
            f"PostgreSQL on {datastore.location}: the schema has a table 'key_values' that was not created by "
            "Tallybook. Use another schema.",
            field="url",
        )
    return comment is not None
