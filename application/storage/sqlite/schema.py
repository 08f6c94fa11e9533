"""Schemas of SQLite databases: their tables, their versions, and how a database is recognized."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....domain.errors import NotALedger, UnsupportedSchemaVersion

_SELECT_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
Migration = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind of database.

    The file's header stores `application_id`, which distinguishes the database from other SQLite files, and the
    version. `migrations[n]` upgrades version n + 1 to version n + 2, in one transaction. A disposable database of an
    earlier version is created again instead.
    """

    application_id: int
    version: int
    statements: Sequence[str]
    migrations: Sequence[Migration] = ()
    is_disposable: bool = False

    def is_current_in(self, connection: sqlite3.Connection, database: str) -> bool:
        """Return whether the tables exist in this version.

        Read in one transaction, because another process may be creating them, and change nothing. Raise NotALedger or
        UnsupportedSchemaVersion if the database holds other tables.
        """
        connection.execute("BEGIN")
        try:
            return self._stored_version(connection, database) == self.version
        finally:
            connection.rollback()

    def upgrade(self, connection: sqlite3.Connection, database: str) -> None:
        """Create the tables, or apply the missing migrations in one transaction each.

        Another process may do the same concurrently: each step happens once.
        """
        while not self._apply_next_step(connection, database):
            pass

    def _apply_next_step(self, connection: sqlite3.Connection, database: str) -> bool:
        """Create the tables or apply one migration. Return whether the tables are current."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._stored_version(connection, database)
            if version == 0 or (self.is_disposable and version < self.version):
                self._create_tables(connection)
                version = self.version
            elif version < self.version:
                self.migrations[version - 1](connection)
                version += 1
                connection.execute(f"PRAGMA user_version = {version}")
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
        return version == self.version

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        for (table,) in connection.execute(_SELECT_TABLES).fetchall():
            connection.execute(f"DROP TABLE {table}")
        for statement in self.statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {self.application_id}")
        connection.execute(f"PRAGMA user_version = {self.version}")

    def _stored_version(self, connection: sqlite3.Connection, database: str) -> int:
        """Return the version of the tables; 0 if the database is empty."""
        application_id, version, tables = (
            connection.execute(query).fetchone()[0]
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
        )
        if (application_id, version, tables) == (0, 0, 0):
            return 0
        if application_id != self.application_id:
            raise NotALedger(
                f"The SQLite database {database!r} is not a Tallybook database of this kind; use another file.",
                field="url",
                value=database,
            )
        if version > self.version:
            raise UnsupportedSchemaVersion(
                f"{database!r} has schema version {version}, but this version of Tallybook supports versions up to "
                f"{self.version}. Install a newer version.",
                field="url",
                value=database,
            )
        return version


def has_table(connection: sqlite3.Connection, table: str) -> bool:
    """Return whether a table exists."""
    query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
    return connection.execute(query, (table,)).fetchone() is not None
