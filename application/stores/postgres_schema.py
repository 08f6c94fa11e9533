"""Which tables a schema of ours has on PostgreSQL, and how to tell it from others."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from ...domain.errors import LedgerUnavailable, NewerSchema, NotALedger
from .postgres import Datastore

_TABLES = (
    "SELECT relname, coalesce(obj_description(oid, 'pg_class'), '') FROM pg_class"
    " WHERE relkind = ANY('{r,p,v,m,f}') AND relnamespace = to_regnamespace(quote_ident(%s))"
)
OURS = "Tallybook"
_MADE = re.compile(r"CREATE TABLE \{schema\}\.(\w+)")


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind. A table with the name of the kind holds the version.

    Its comment tells them from any others of these names. Tables that are disposable are made anew where they are of an
    earlier version; `later` is a pattern for the names of those that are made later on.
    """

    kind: str
    version: int
    statements: Sequence[str]
    is_disposable: bool = False
    later: str = ""

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
        found = tables_in(connection, datastore)
        if found.get(self.kind) != OURS:
            taken = self._names(found)
            if taken:
                raise NotALedger(
                    f"PostgreSQL on {datastore.place}: in {datastore.schema!r} there is a table {taken[0]!r} that is "
                    "none of Tallybook's. Give another schema.",
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
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(datastore.locks, "making"),))
        if self._is_in(connection, datastore):
            return
        if not datastore.is_temporary and _is_missing(connection, datastore.schema):
            connection.execute(datastore.named("CREATE SCHEMA {schema}"))
        if self.is_disposable:
            for table in self._names(tables_in(connection, datastore)):  # and whatever else there is stays
                connection.execute(datastore.named("DROP TABLE {schema}.{table} CASCADE", table=table))
        for statement in self.statements:
            connection.execute(datastore.named(statement))
        connection.execute(datastore.named("CREATE TABLE {schema}.{kind} (version INTEGER NOT NULL)", kind=self.kind))
        connection.execute(datastore.named(f"COMMENT ON TABLE {{schema}}.{{kind}} IS '{OURS}'", kind=self.kind))
        connection.execute(datastore.named("INSERT INTO {schema}.{kind} VALUES (%s)", kind=self.kind), (self.version,))

    def _names(self, found: Iterable[str]) -> list[str]:
        """Those of the tables that have a name of ours."""
        ours = {self.kind, *_MADE.findall(" ".join(self.statements))}
        return sorted(name for name in found if name in ours or re.fullmatch(self.later, name))


def tables_in(connection: Connection[Any], datastore: Datastore) -> dict[str, str]:
    """All tables of the schema, and what else would be in a table's way, with their comments."""
    return dict(connection.execute(_TABLES, (datastore.schema,)).fetchall())


def _is_missing(connection: Connection[Any], schema: str) -> bool:
    return connection.execute("SELECT to_regnamespace(quote_ident(%s))", (schema,)).fetchone() == (None,)


def lock_number(locks: str, what: str) -> int:
    """The number of an advisory lock: those of one datastore's `locks`, and of others, don't meet."""
    return int.from_bytes(hashlib.sha256(f"tallybook {locks} {what}".encode()).digest()[:8], "big", signed=True)
