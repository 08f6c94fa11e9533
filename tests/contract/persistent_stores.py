"""The persistent stores, with operations that bypass the application on separate connections."""

import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import psycopg
import pytest
from psycopg import sql
from tallybook.application import Metering
from tallybook.application.storage.ports import EventRow
from tallybook.application.storage.postgres import event_recorder as postgres_recorder
from tallybook.application.storage.sqlite import event_recorder as sqlite_recorder
from tallybook.application.storage.sqlite.connection import Datastore
from tallybook.application.storage.sqlite.store import SQLiteStore
from tallybook.application.storage.url import resolve_store

from ..postgres import Database
from .stores import ANY_TIME, NOW, Store

PERSISTENT_STORES: Mapping[str, str] = {"sqlite file": "file_store", "postgresql": "postgres_store"}
"""The fixture of each persistent store. To test another store, add a line here, and its fixture for all tests."""

DatabasePart = Literal["ledger", "read_models"]
Row = tuple[Any, ...]


class Step(NamedTuple):
    """A statement with `?` placeholders, and its parameters."""

    statement: str
    parameters: Sequence[object] = ()


class StatementResult(NamedTuple):
    """The result of a statement: its columns, its rows and the number of affected rows."""

    columns: Sequence[str]
    rows: Sequence[Row]
    row_count: int


class StoreRejected(Exception):
    """The database rejected a change."""


@dataclass(frozen=True)
class PersistentStore(Store, ABC):
    """A ledger and read models that persist after they are closed."""

    url: str

    def open(self) -> Metering:
        """Open the ledger as an application does."""
        return Metering.open(self.url, policy=ANY_TIME, clock=lambda: NOW)

    # --- implemented by each store ----------------------------------------------------------------------

    @abstractmethod
    def execute(self, part: DatabasePart, *steps: Step) -> list[StatementResult]:
        """Execute statements in one transaction. Raises StoreRejected."""

    @abstractmethod
    def without_triggers(self, *steps: Step) -> list[Step]:
        """Return the steps with steps around them that disable and restore all triggers of the ledger."""

    @abstractmethod
    def new_location(self) -> Self:
        """Return an empty location of the same kind."""

    @abstractmethod
    def copy_ledger(self, to: "PersistentStore") -> None:
        """Replace the other ledger with a copy of this one, as a restore from a backup does."""

    @abstractmethod
    def move(self, to: "PersistentStore") -> None:
        """Move the ledger and its read models to an empty location."""

    @abstractmethod
    def delete_read_models(self) -> None:
        """Delete the read models, as an operator does."""

    @abstractmethod
    def has_read_models(self) -> bool:
        """Return whether there are read models."""

    @abstractmethod
    def list_objects(self) -> list[str]:
        """Return the names of all files or database objects of the ledger."""

    # --- used by tests --------------------------------------------------------------------------------

    def ledger_rows(self, statement: str, *parameters: object) -> Sequence[Row]:
        """Return the rows of a statement on the ledger."""
        return self.execute("ledger", Step(statement, parameters))[0].rows

    def read_model_rows(self, statement: str, *parameters: object) -> Sequence[Row]:
        """Return the rows of a statement on the read models."""
        return self.execute("read_models", Step(statement, parameters))[0].rows

    def corrupt_ledger(self, statement: str, *parameters: object) -> int:
        """Change rows of the ledger without its triggers, as its owner can; return the number of changed rows."""
        step = Step(statement, parameters)
        steps = self.without_triggers(step)
        return self.execute("ledger", *steps)[steps.index(step)].row_count

    def corrupt_read_models(self, statement: str, *parameters: object) -> int:
        """Change rows of the read models; return the number of changed rows."""
        return self.execute("read_models", Step(statement, parameters))[0].row_count

    def add_read_model_row(self, table: str, **cells: object) -> None:
        """Insert a copy of the first row of a table with some cells changed."""
        (like,) = self.execute("read_models", Step(f"SELECT * FROM {table} ORDER BY 1, 2 LIMIT 1"))
        row = {**dict(zip(like.columns, like.rows[0], strict=True)), **cells}
        self.execute("read_models", _insert(table, list(row), list(row.values())))

    @contextmanager
    def restore_table(self, table: str) -> Generator[None]:
        """Restore the rows of a table of the read models at the end."""
        (table_before,) = self.execute("read_models", Step(f"SELECT * FROM {table}"))
        yield
        inserts = [_insert(table, table_before.columns, row) for row in table_before.rows]
        self.execute("read_models", Step(f"DELETE FROM {table}"), *inserts)


def _insert(table: str, columns: Sequence[str], row: Sequence[object]) -> Step:
    return Step(f"INSERT INTO {table} ({','.join(columns)}) VALUES ({','.join('?' * len(row))})", row)


@dataclass(frozen=True)
class SQLiteFile(PersistentStore):
    """A ledger in a file."""

    location: SQLiteStore

    @classmethod
    def in_file(cls, file: Path) -> Self:
        """Return a ledger in a file, with its read models in a second file next to it."""
        return cls(url=f"sqlite:///{file}", location=SQLiteStore(str(file), f"{file}.read-models"))

    @property
    def file(self) -> Path:
        """Return the file of the ledger."""
        return Path(self.location.events_database)

    @property
    def read_models_file(self) -> Path:
        """Return the file of the read models."""
        return Path(self.location.read_models_database)

    @contextmanager
    def datastores(self) -> Generator[tuple[Datastore, Datastore]]:
        """Open the databases of the ledger and of its read models through the store, and close them at the end."""
        with (
            closing(self.location.open_recorder()) as recorder,
            closing(self.location.open_read_models(dict)) as read_models,
        ):
            assert isinstance(recorder.datastore, Datastore)
            assert isinstance(read_models.datastore, Datastore)
            yield recorder.datastore, read_models.datastore

    def execute(self, part: DatabasePart, *steps: Step) -> list[StatementResult]:
        """Execute statements in one transaction."""
        with (
            closing(sqlite3.connect(self.file if part == "ledger" else self.read_models_file)) as connection,
            connection,
        ):
            try:
                return [self._result(connection.execute(*step)) for step in steps]
            except sqlite3.IntegrityError as error:
                raise StoreRejected(str(error)) from error

    def without_triggers(self, *steps: Step) -> list[Step]:
        """Return the steps with steps around them that disable and restore all triggers of the ledger."""
        triggers = self.ledger_rows("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        return [
            *(Step(f"DROP TRIGGER {name}") for name, _ in triggers),
            *steps,
            *(Step(trigger_sql) for _, trigger_sql in triggers),
        ]

    def new_location(self) -> Self:
        """Return a file in a separate folder."""
        folder = self.file.parent / "moved"
        folder.mkdir()
        return self.in_file(folder / self.file.name)

    def copy_ledger(self, to: PersistentStore) -> None:
        """Copy the file."""
        assert isinstance(to, SQLiteFile)
        shutil.copy(self.file, to.file)

    def move(self, to: PersistentStore) -> None:
        """Move both files."""
        assert isinstance(to, SQLiteFile)
        shutil.move(self.file, to.file)
        shutil.move(self.read_models_file, to.read_models_file)

    def delete_read_models(self) -> None:
        """Delete the file with its write-ahead log and shared memory."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.read_models_file}{suffix}").unlink(missing_ok=True)

    def has_read_models(self) -> bool:
        """Return whether the file of the read models exists."""
        return self.read_models_file.exists()

    def list_objects(self) -> list[str]:
        """Return the names of all files in the folder."""
        return sorted(path.name for path in self.file.parent.iterdir())

    @staticmethod
    def _result(cursor: sqlite3.Cursor) -> StatementResult:
        return StatementResult([column[0] for column in cursor.description or ()], cursor.fetchall(), cursor.rowcount)


@dataclass(frozen=True)
class PostgresSchema(PersistentStore):
    """A ledger in a schema of a PostgreSQL database."""

    database: Database
    schema: str

    @classmethod
    def create(cls, database: Database) -> Self:
        """Return a ledger in a new schema."""
        url = database.fresh_url()
        return cls(url=url, location=resolve_store(url), database=database, schema=url.rpartition("schema=")[2])

    @property
    def read_models_schema(self) -> str:
        """Return the schema of the read models."""
        return f"{self.schema}_read_models"

    def execute(self, part: DatabasePart, *steps: Step) -> list[StatementResult]:
        """Execute statements in one transaction."""
        schema = self.schema if part == "ledger" else self.read_models_schema
        with closing(self.database.connect()) as connection, connection.transaction():
            connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
            try:
                return [self._result(connection, step) for step in steps]
            except (psycopg.IntegrityError, psycopg.DataError, psycopg.errors.DatatypeMismatch) as error:
                raise StoreRejected(str(error)) from error

    def without_triggers(self, *steps: Step) -> list[Step]:
        """Return the steps with steps around them that disable and restore all triggers of the ledger."""
        return [
            Step("ALTER TABLE stored_events DISABLE TRIGGER USER"),
            *steps,
            Step("ALTER TABLE stored_events ENABLE TRIGGER USER"),
        ]

    def new_location(self) -> Self:
        """Return a ledger in a new schema."""
        return self.create(self.database)

    def copy_ledger(self, to: PersistentStore) -> None:
        """Copy the rows into a new ledger, which replaces an existing one."""
        assert isinstance(to, PostgresSchema)
        self._drop(to.schema)
        to.ledger().close()
        rows = "INSERT INTO {}.stored_events SELECT * FROM {}.stored_events ORDER BY position"
        self._administer(rows, to.schema, self.schema)

    def move(self, to: PersistentStore) -> None:
        """Rename both schemas."""
        assert isinstance(to, PostgresSchema)
        self._administer("ALTER SCHEMA {} RENAME TO {}", self.schema, to.schema)
        self._administer("ALTER SCHEMA {} RENAME TO {}", self.read_models_schema, to.read_models_schema)

    def delete_read_models(self) -> None:
        """Drop the schema of the read models with all its objects."""
        self._drop(self.read_models_schema)

    def has_read_models(self) -> bool:
        """Return whether the schema of the read models exists."""
        return self.ledger_rows("SELECT to_regnamespace(?)", self.read_models_schema) != [(None,)]

    def list_objects(self) -> list[str]:
        """Return all objects in schemas whose names start with the name of the ledger's schema."""
        rows = self.ledger_rows(
            "SELECT nspname || '.' || coalesce(relname, '') FROM pg_namespace LEFT JOIN pg_class"
            " ON relnamespace = pg_namespace.oid WHERE starts_with(nspname, ?) ORDER BY 1",
            self.schema,
        )
        return [name for (name,) in rows]

    def delete(self) -> None:
        """Drop both schemas of the ledger."""
        self._drop(self.schema)
        self._drop(self.read_models_schema)

    def _drop(self, schema: str) -> None:
        self._administer("DROP SCHEMA IF EXISTS {} CASCADE", schema)

    def _administer(self, statement: str, *names: str) -> None:
        with closing(self.database.connect()) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # pyright: ignore

    @staticmethod
    def _result(connection: "psycopg.Connection[Row]", step: Step) -> StatementResult:
        cursor = connection.execute(step.statement.replace("?", "%s"), step.parameters or None)  # pyright: ignore
        columns = [column.name for column in cursor.description or ()]
        return StatementResult(columns, cursor.fetchall() if columns else [], cursor.rowcount)


@contextmanager
def decreasing_times_allowed(store: PersistentStore) -> Generator[None]:
    """Let a ledger store times of recording that decrease, as versions before that rule did.

    Its trigger is restored at the end, as the upgrade of such a ledger creates it.
    """
    store.open().close()
    if isinstance(store, SQLiteFile):
        name = "recorded_times_never_decrease"
        ((create,),) = store.ledger_rows("SELECT sql FROM sqlite_schema WHERE name = ?", name)
        remove, restore = Step(f"DROP TRIGGER {name}"), Step(str(create))
    else:
        change = "ALTER TABLE stored_events {} TRIGGER stored_events_are_only_appended"
        remove, restore = Step(change.format("DISABLE")), Step(change.format("ENABLE"))

    def unchanged(rows: Sequence[EventRow], *_: object) -> Sequence[EventRow]:
        return rows

    store.execute("ledger", remove)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_recorder, "in_order_of_time", unchanged)
        patch.setattr(postgres_recorder, "in_order_of_time", unchanged)
        yield
    store.execute("ledger", restore)
