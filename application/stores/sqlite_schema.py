"""Which tables a database of ours has, and how to tell it from others."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from ...domain.errors import NewerSchema, NotALedger

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind of database.

    `application_id` and `version` are kept in the file's header: they tell a ledger from any other SQLite file.
    Tables that are disposable are made anew where they are of an earlier version.
    """

    application_id: int
    version: int
    statements: Sequence[str]
    is_disposable: bool = False

    def is_in(self, connection: sqlite3.Connection, database: str) -> bool:
        """Whether the tables are there; not, if the database is empty.

        Changes nothing, and looks in one transaction, as another process may be making them. Raises NotALedger or
        NewerSchema for a database that has other tables.
        """
        connection.execute("BEGIN")
        try:
            return self._is_seen(connection, database)
        finally:
            connection.rollback()

    def _is_seen(self, connection: sqlite3.Connection, database: str) -> bool:
        application_id, version, tables = (
            connection.execute(question).fetchone()[0]
            for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
        )
        if (application_id, version, tables) == (0, 0, 0):
            return False
        if application_id != self.application_id:
            raise NotALedger(
                f"The SQLite database {database!r} is none of Tallybook's of this kind; give another file.",
                field="url",
                value=database,
            )
        if version > self.version:
            raise NewerSchema(
                f"{database!r} has schema version {version}; this Tallybook knows {self.version}. Install a later one.",
                field="url",
                value=database,
            )
        return version == self.version or not self.is_disposable

    def make(self, connection: sqlite3.Connection, database: str) -> None:
        """Make the tables, unless another process is faster."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._is_seen(connection, database):
                for (table,) in connection.execute(_TABLES).fetchall():
                    connection.execute(f"DROP TABLE {table}")
                for statement in self.statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {self.application_id}")
                connection.execute(f"PRAGMA user_version = {self.version}")
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
