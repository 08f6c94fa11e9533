"""Which tables a schema of ours has on PostgreSQL, and how to tell it from others."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from ...domain.errors import LedgerUnavailable, NewerSchema, NotALedger
from .postgres import Datastore

_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace(quote_ident(%s))"


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind. A table with the name of the kind holds the version; it tells them from any others.

    Tables that are disposable are made anew where they are of an earlier version.
    """

    kind: str
    version: int
    statements: Sequence[str]
    is_disposable: bool = False

    def ensure(self, datastore: Datastore) -> None:
        """Make the tables where there are none. Raises NotALedger, NewerSchema or NotPermitted.

        A user who may not make any gets by with those that are there.
        """
        if not self.is_in(datastore):
            self.make(datastore)

    def is_in(self, datastore: Datastore) -> bool:
        """Whether the tables are there. Raises NotALedger or NewerSchema."""
        return datastore.attempt("read", lambda connection: self._is_in(connection, datastore))

    def make(self, datastore: Datastore) -> None:
        """Make the tables, unless somebody else was faster: one at a time does."""
        datastore.attempt("write", lambda connection: self._make(connection, datastore))

    def _is_in(self, connection: Connection[Any], datastore: Datastore) -> bool:
        encoding = connection.execute("SHOW server_encoding").fetchone()
        if encoding != ("UTF8",):
            raise LedgerUnavailable(
                f"The database {datastore.place} keeps text as {encoding and encoding[0]}; a ledger needs UTF8."
            )
        found = {name for (name,) in connection.execute(_TABLES, (datastore.schema,)).fetchall()}
        if self.kind not in found:
            taken = found & {"stored_events", "generations"}
            if taken:
                raise NotALedger(
                    f"PostgreSQL on {datastore.place}: the schema has a table {taken.pop()!r} that is none of "
                    "Tallybook's. Give another schema.",
                    field="url",
                )
            return False
        row = connection.execute(datastore.named("SELECT version FROM {schema}.{kind}", kind=self.kind)).fetchone()
        version = 0 if row is None else int(row[0])
        if version > self.version:
            raise NewerSchema(
                f"PostgreSQL on {datastore.place}: its tables are of version {version}; this Tallybook knows "
                f"{self.version}. Install a later one.",
                field="url",
            )
        return version == self.version or not self.is_disposable

    def _make(self, connection: Connection[Any], datastore: Datastore) -> None:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(datastore.schema, "making"),))
        if self._is_in(connection, datastore):
            return
        if not datastore.is_temporary and _is_missing(connection, datastore.schema):
            connection.execute(datastore.named("CREATE SCHEMA {schema}"))
        if self.is_disposable:
            for (table,) in connection.execute(_TABLES, (datastore.schema,)).fetchall():
                connection.execute(datastore.named("DROP TABLE {schema}.{table} CASCADE", table=table))
        for statement in self.statements:
            connection.execute(datastore.named(statement))
        connection.execute(datastore.named("CREATE TABLE {schema}.{kind} (version INTEGER NOT NULL)", kind=self.kind))
        connection.execute(datastore.named("INSERT INTO {schema}.{kind} VALUES (%s)", kind=self.kind), (self.version,))


def _is_missing(connection: Connection[Any], schema: str) -> bool:
    return connection.execute("SELECT to_regnamespace(quote_ident(%s))", (schema,)).fetchone() == (None,)


def lock_number(schema: str, what: str) -> int:
    """The number of an advisory lock: those of one schema, and of others, don't meet."""
    return int.from_bytes(hashlib.sha256(f"tallybook {schema} {what}".encode()).digest()[:8], "big", signed=True)
