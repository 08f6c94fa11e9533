"""Schemas of PostgreSQL ledgers: their tables, their versions, and how a schema is recognized."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from ....domain.errors import LedgerUnavailable, NotALedger, UnsupportedSchemaVersion
from .connection import PostgresDatastore

# Each relation depends on its schema. pg_depend has an index by schema; pg_class has none.
_SELECT_TABLES = (
    "SELECT relname, coalesce(obj_description(pg_class.oid, 'pg_class'), '')"
    " FROM pg_depend JOIN pg_class ON pg_class.oid = objid"
    " WHERE refclassid = 'pg_namespace'::regclass AND refobjid = (SELECT to_regnamespace(quote_ident(%s)))"
    " AND classid = 'pg_class'::regclass AND relkind = ANY('{r,p,v,m,f}')"
)
OWNER_COMMENT = "Tallybook"
_CREATED_TABLE = re.compile(r"CREATE (?:TABLE|VIEW) \{schema\}\.(\w+)")
Migration = Callable[[Connection[Any], PostgresDatastore], None]


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind. A table with the name of the kind holds the version.

    The comment of that table distinguishes the tables from others of the same names. `migrations[n]` upgrades version
    n + 1 to version n + 2, in one transaction. Disposable tables of an earlier version are created again instead;
    `dynamic_tables` is a pattern for the names of tables that are created later.
    """

    kind: str
    version: int
    statements: Sequence[str]
    migrations: Sequence[Migration] = ()
    is_disposable: bool = False
    dynamic_tables: str = ""

    def ensure(self, datastore: PostgresDatastore) -> None:
        """Create the tables if they do not exist, or upgrade them.

        A role without the right to create tables can use current ones. Raise NotALedger, UnsupportedSchemaVersion or
        DatabasePermissionDenied.
        """
        version = datastore.run_in_transaction("read", lambda connection: self._stored_version(connection, datastore))
        if version != self.version:
            self.create(datastore)

    def exists_in(self, datastore: PostgresDatastore) -> bool:
        """Return whether the tables exist, in any version. Raise NotALedger or UnsupportedSchemaVersion."""
        return (
            datastore.run_in_transaction("read", lambda connection: self._stored_version(connection, datastore))
            is not None
        )

    def create(self, datastore: PostgresDatastore) -> None:
        """Create the tables, or apply the missing migrations in one transaction each.

        An advisory lock lets one process at a time do a step, and each step happens once.
        """
        while not datastore.run_in_transaction(
            "write", lambda connection: self._apply_next_step(connection, datastore)
        ):
            pass

    def _apply_next_step(self, connection: Connection[Any], datastore: PostgresDatastore) -> bool:
        """Create the tables or apply one migration. Return whether the tables are current."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (advisory_lock_key(datastore.lock_namespace, "making"),))
        version = self._stored_version(connection, datastore)
        if version is None or (self.is_disposable and version < self.version):
            self._create_tables(connection, datastore)
            return True
        if version < self.version:
            self.migrations[version - 1](connection, datastore)
            version += 1
            connection.execute(
                datastore.format_sql("UPDATE {schema}.{kind} SET version = %s", kind=self.kind), (version,)
            )
        return version == self.version

    def _stored_version(self, connection: Connection[Any], datastore: PostgresDatastore) -> int | None:
        """Return the version of the tables, or None if they do not exist."""
        encoding = connection.execute("SHOW server_encoding").fetchone()
        if encoding != ("UTF8",):
            raise LedgerUnavailable(
                f"The database {datastore.location} has the encoding {encoding and encoding[0]}; a ledger needs UTF8."
            )
        tables = list_tables(connection, datastore)
        if tables.get(self.kind) != OWNER_COMMENT:
            conflicting_tables = self._own_tables(tables)
            if conflicting_tables:
                raise NotALedger(
                    f"PostgreSQL on {datastore.location}: the schema {datastore.schema!r} has a table "
                    f"{conflicting_tables[0]!r} that was not created by Tallybook. Use another schema.",
                    field="url",
                )
            return None
        row = connection.execute(datastore.format_sql("SELECT version FROM {schema}.{kind}", kind=self.kind)).fetchone()
        if row is None:  # the row was deleted
            return 0 if self.is_disposable else self.version
        version = int(row[0])
        if version > self.version:
            raise UnsupportedSchemaVersion(
                f"PostgreSQL on {datastore.location}: the tables have schema version {version}, but this version of "
                f"Tallybook supports versions up to {self.version}. Install a newer version.",
                field="url",
            )
        return version

    def _create_tables(self, connection: Connection[Any], datastore: PostgresDatastore) -> None:
        if not datastore.is_temporary and _is_missing(connection, datastore.schema):
            connection.execute(datastore.format_sql("CREATE SCHEMA {schema}"))
        if self.is_disposable:
            for table in self._own_tables(list_tables(connection, datastore)):  # tables of others stay
                connection.execute(datastore.format_sql("DROP TABLE {schema}.{table} CASCADE", table=table))
        for statement in self.statements:
            connection.execute(datastore.format_sql(statement))
        for statement in (
            "CREATE TABLE {schema}.{kind} (version INTEGER NOT NULL)",
            f"COMMENT ON TABLE {{schema}}.{{kind}} IS '{OWNER_COMMENT}'",
        ):
            connection.execute(datastore.format_sql(statement, kind=self.kind))
        connection.execute(
            datastore.format_sql("INSERT INTO {schema}.{kind} VALUES (%s)", kind=self.kind), (self.version,)
        )

    def _own_tables(self, table_names: Iterable[str]) -> list[str]:
        """Return those of the table names that this schema uses."""
        own_names = {self.kind, *_CREATED_TABLE.findall(" ".join(self.statements))}
        return sorted(name for name in table_names if name in own_names or re.fullmatch(self.dynamic_tables, name))


def list_tables(connection: Connection[Any], datastore: PostgresDatastore) -> dict[str, str]:
    """Return all relations of the schema that share their names with tables, and their comments."""
    return dict(connection.execute(_SELECT_TABLES, (datastore.schema,)).fetchall())


def _is_missing(connection: Connection[Any], schema: str) -> bool:
    return connection.execute("SELECT to_regnamespace(quote_ident(%s))", (schema,)).fetchone() == (None,)


def advisory_lock_key(namespace: str, name: str) -> int:
    """Return the number of an advisory lock, which differs for each lock namespace of a datastore."""
    return int.from_bytes(hashlib.sha256(f"tallybook {namespace} {name}".encode()).digest()[:8], "big", signed=True)
