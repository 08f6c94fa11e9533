"""The stores that outlive a program, and what may happen to them past the application, on connections of its own."""

import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import psycopg
from psycopg import sql
from tallybook.application import Metering
from tallybook.application.ledger_url import locate
from tallybook.application.stores.sqlite import Datastore
from tallybook.application.stores.sqlite_store import SQLiteStore

from ..postgres import Database
from .stores import ANY_TIME, NOW, Store

Part = Literal["ledger", "views"]
Row = tuple[Any, ...]


class Step(NamedTuple):
    """A statement whose marks are question marks, and what is given for these."""

    statement: str
    given: Sequence[object] = ()


class Done(NamedTuple):
    """What a statement gave: its columns and rows, and how many rows it is about."""

    columns: Sequence[str]
    rows: Sequence[Row]
    changed: int


class Refused(Exception):
    """The store itself refuses a change."""


@dataclass(frozen=True)
class KeptStore(Store, ABC):
    """A ledger and read models that are still there when nobody has them open."""

    url: str

    def opened(self) -> Metering:
        """The ledger, opened as a program does."""
        return Metering.open(self.url, policy=ANY_TIME, clock=lambda: NOW)

    # --- what each store does in its own way ------------------------------------------------------------

    @abstractmethod
    def execute(self, part: Part, *steps: Step) -> list[Done]:
        """Execute statements in one transaction. Raises Refused."""

    @abstractmethod
    def unguarded(self, *steps: Step) -> list[Step]:
        """The same steps on the ledger with all triggers lifted meanwhile."""

    @abstractmethod
    def elsewhere(self) -> Self:
        """Another place of this kind, where nothing is yet."""

    @abstractmethod
    def copy_ledger(self, to: "KeptStore") -> None:
        """Put a copy of the ledger in the place of what is there, as from a backup."""

    @abstractmethod
    def move(self, to: "KeptStore") -> None:
        """Move the ledger and its read models to where nothing is yet."""

    @abstractmethod
    def delete_views(self) -> None:
        """Delete the read models, as an operator does."""

    @abstractmethod
    def has_views(self) -> bool:
        """Whether there are read models."""

    @abstractmethod
    def belongings(self) -> list[str]:
        """The names of all that lies there, whatever it is."""

    # --- what a test does -----------------------------------------------------------------------------

    def ledger_rows(self, statement: str, *given: object) -> Sequence[Row]:
        """What a statement gives on the ledger."""
        return self.execute("ledger", Step(statement, given))[0].rows

    def views_rows(self, statement: str, *given: object) -> Sequence[Row]:
        """What a statement gives on the read models."""
        return self.execute("views", Step(statement, given))[0].rows

    def damage_ledger(self, statement: str, *given: object) -> int:
        """Change rows of the ledger, as one can who may lift its triggers; give how many."""
        step = Step(statement, given)
        steps = self.unguarded(step)
        return self.execute("ledger", *steps)[steps.index(step)].changed

    def damage_views(self, statement: str, *given: object) -> int:
        """Change rows of the read models; give how many."""
        return self.execute("views", Step(statement, given))[0].changed

    def add_to_views(self, table: str, **cells: object) -> None:
        """Add a row like another one of the table, but for these cells."""
        (like,) = self.execute("views", Step(f"SELECT * FROM {table} ORDER BY 1, 2 LIMIT 1"))
        row = {**dict(zip(like.columns, like.rows[0], strict=True)), **cells}
        self.execute("views", _insert(table, list(row), list(row.values())))

    @contextmanager
    def undone(self, table: str) -> Generator[None]:
        """Whatever is done to a table of the read models is undone at the end."""
        (before,) = self.execute("views", Step(f"SELECT * FROM {table}"))
        yield
        again = [_insert(table, before.columns, row) for row in before.rows]
        self.execute("views", Step(f"DELETE FROM {table}"), *again)


def _insert(table: str, columns: Sequence[str], row: Sequence[object]) -> Step:
    return Step(f"INSERT INTO {table} ({','.join(columns)}) VALUES ({','.join('?' * len(row))})", row)


@dataclass(frozen=True)
class SQLiteFile(KeptStore):
    """A ledger in a file."""

    place: SQLiteStore

    @classmethod
    def beside(cls, file: Path) -> Self:
        """A ledger in a file, and its read models in another one beside it."""
        return cls(url=f"sqlite:///{file}", place=SQLiteStore(str(file), f"{file}.views"))

    @property
    def file(self) -> Path:
        """The ledger's file."""
        return Path(self.place.events_database)

    @property
    def views_file(self) -> Path:
        """The file of the read models."""
        return Path(self.place.views_database)

    @contextmanager
    def datastores(self) -> Generator[tuple[Datastore, Datastore]]:
        """The databases of the ledger and of its read models as the store opens them, closed at the end."""
        with closing(self.place.recorder()) as recorder, closing(self.place.views(dict)) as views:
            assert isinstance(recorder.datastore, Datastore)
            assert isinstance(views.datastore, Datastore)
            yield recorder.datastore, views.datastore

    def execute(self, part: Part, *steps: Step) -> list[Done]:
        """Execute statements in one transaction."""
        with closing(sqlite3.connect(self.file if part == "ledger" else self.views_file)) as connection, connection:
            try:
                return [self._done(connection.execute(*step)) for step in steps]
            except sqlite3.IntegrityError as error:
                raise Refused(str(error)) from error

    def unguarded(self, *steps: Step) -> list[Step]:
        """The same steps on the ledger with all triggers lifted meanwhile."""
        triggers = self.ledger_rows("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        return [
            *(Step(f"DROP TRIGGER {name}") for name, _ in triggers),
            *steps,
            *(Step(made) for _, made in triggers),
        ]

    def elsewhere(self) -> Self:
        """A file in a folder of its own."""
        folder = self.file.parent / "elsewhere"
        folder.mkdir()
        return self.beside(folder / self.file.name)

    def copy_ledger(self, to: KeptStore) -> None:
        """Copy the file."""
        assert isinstance(to, SQLiteFile)
        shutil.copy(self.file, to.file)

    def move(self, to: KeptStore) -> None:
        """Move both files."""
        assert isinstance(to, SQLiteFile)
        shutil.move(self.file, to.file)
        shutil.move(self.views_file, to.views_file)

    def delete_views(self) -> None:
        """Delete the file, and what SQLite keeps beside it."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.views_file}{suffix}").unlink(missing_ok=True)

    def has_views(self) -> bool:
        """Whether there is such a file."""
        return self.views_file.exists()

    def belongings(self) -> list[str]:
        """All files in the folder."""
        return sorted(path.name for path in self.file.parent.iterdir())

    @staticmethod
    def _done(cursor: sqlite3.Cursor) -> Done:
        return Done([one[0] for one in cursor.description or ()], cursor.fetchall(), cursor.rowcount)


@dataclass(frozen=True)
class PostgresSchema(KeptStore):
    """A ledger in a schema of a PostgreSQL database."""

    database: Database
    schema: str

    @classmethod
    def fresh(cls, database: Database) -> Self:
        """A ledger in a schema of its own."""
        url = database.fresh_url()
        return cls(url=url, place=locate(url), database=database, schema=url.rpartition("schema=")[2])

    @property
    def views_schema(self) -> str:
        """The schema of the read models."""
        return f"{self.schema}_views"

    def execute(self, part: Part, *steps: Step) -> list[Done]:
        """Execute statements in one transaction."""
        schema = self.schema if part == "ledger" else self.views_schema
        with closing(self.database.connect()) as connection, connection.transaction():
            connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
            try:
                return [self._done(connection, step) for step in steps]
            except (psycopg.IntegrityError, psycopg.DataError, psycopg.errors.DatatypeMismatch) as error:
                raise Refused(str(error)) from error

    def unguarded(self, *steps: Step) -> list[Step]:
        """The same steps on the ledger with all triggers lifted meanwhile."""
        return [
            Step("ALTER TABLE stored_events DISABLE TRIGGER USER"),
            *steps,
            Step("ALTER TABLE stored_events ENABLE TRIGGER USER"),
        ]

    def elsewhere(self) -> Self:
        """A schema that is new."""
        return self.fresh(self.database)

    def copy_ledger(self, to: KeptStore) -> None:
        """Copy the rows into a new ledger, in the place of one that may be there."""
        assert isinstance(to, PostgresSchema)
        self._drop(to.schema)
        to.ledger().close()
        rows = "INSERT INTO {}.stored_events SELECT * FROM {}.stored_events ORDER BY position"
        self._administer(rows, to.schema, self.schema)

    def move(self, to: KeptStore) -> None:
        """Rename both schemas."""
        assert isinstance(to, PostgresSchema)
        self._administer("ALTER SCHEMA {} RENAME TO {}", self.schema, to.schema)
        self._administer("ALTER SCHEMA {} RENAME TO {}", self.views_schema, to.views_schema)

    def delete_views(self) -> None:
        """Drop the schema, and all that lies in it."""
        self._drop(self.views_schema)

    def has_views(self) -> bool:
        """Whether there is such a schema."""
        return self.ledger_rows("SELECT to_regnamespace(?)", self.views_schema) != [(None,)]

    def belongings(self) -> list[str]:
        """All that the schemas hold, and all schemas that begin with their names."""
        found = self.ledger_rows(
            "SELECT nspname || '.' || coalesce(relname, '') FROM pg_namespace LEFT JOIN pg_class"
            " ON relnamespace = pg_namespace.oid WHERE starts_with(nspname, ?) ORDER BY 1",
            self.schema,
        )
        return [name for (name,) in found]

    def drop(self) -> None:
        """Leave nothing of the ledger."""
        self._drop(self.schema)
        self._drop(self.views_schema)

    def _drop(self, schema: str) -> None:
        self._administer("DROP SCHEMA IF EXISTS {} CASCADE", schema)

    def _administer(self, statement: str, *names: str) -> None:
        with closing(self.database.connect()) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # pyright: ignore

    @staticmethod
    def _done(connection: "psycopg.Connection[Row]", step: Step) -> Done:
        cursor = connection.execute(step.statement.replace("?", "%s"), step.given or None)  # pyright: ignore
        columns = [one.name for one in cursor.description or ()]
        return Done(columns, cursor.fetchall() if columns else [], cursor.rowcount)
