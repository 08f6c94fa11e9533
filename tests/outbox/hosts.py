"""Programs that record in their own transactions: one for each kind of connection that an outbox takes."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from tallybook.application import Outbox

from .django_connection import django_connection


@dataclass(frozen=True)
class HostDatabase:
    """A database with a table `orders` and an outbox. The names of both begin with `prefix`."""

    url: str
    prefix: str

    @property
    def table(self) -> str:
        """Return the name of the outbox."""
        return f"{self.prefix}tallybook_outbox"

    @property
    def file(self) -> str:
        """Return the path of a SQLite database."""
        return self.url.removeprefix("sqlite:///")

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.url.startswith("sqlite")

    def execute(self, statement: str) -> list[Any]:
        """Run a statement in a transaction of its own, and return its rows; `{prefix}` is that of the tables."""
        connection: Any = sqlite3.connect(self.file) if self.is_sqlite else psycopg.connect(self.url)
        with closing(connection), connection:
            cursor = connection.execute(statement.format(prefix=self.prefix))
            return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Host:
    """An open connection of a host program, and how the program uses it."""

    connection: Any
    execute: Callable[[str], object]
    commit: Callable[[], object]
    rollback: Callable[[], object]
    run: Callable[[Coroutine[Any, Any, str]], str] | None = None
    """Runs coroutines, if the connection is asynchronous."""

    def record(self, outbox: Outbox, identifier: str) -> None:
        """Store an order, and record its usage."""
        self.execute(f"INSERT INTO {outbox.table.removesuffix('tallybook_outbox')}orders VALUES ('{identifier}')")
        payload = {"customer": "acme", "tokens": "7"}
        if self.run is None:
            outbox.record(self.connection, "tokens", payload, identifier=identifier)
        else:
            self.run(outbox.arecord(self.connection, "tokens", payload, identifier=identifier))


OpenHost = Callable[[HostDatabase], Generator[Host]]


def open_sqlite3(database: HostDatabase) -> Generator[Host]:
    """Connect with sqlite3, which begins a transaction before the first change."""
    with closing(sqlite3.connect(database.file)) as connection:
        yield Host(connection, connection.execute, connection.commit, connection.rollback)


def open_sqlite3_cursor(database: HostDatabase) -> Generator[Host]:
    """Connect with sqlite3, and use one cursor."""
    with closing(sqlite3.connect(database.file)) as connection:
        cursor = connection.cursor()
        yield Host(cursor, cursor.execute, connection.commit, connection.rollback)


def open_psycopg(database: HostDatabase) -> Generator[Host]:
    """Connect with psycopg."""
    with closing(psycopg.connect(database.url)) as connection:
        yield Host(connection, lambda sql: connection.execute(sql.encode()), connection.commit, connection.rollback)


def open_psycopg_cursor(database: HostDatabase) -> Generator[Host]:
    """Connect with psycopg, and use one cursor."""
    with closing(psycopg.connect(database.url)) as connection, connection.cursor() as cursor:
        yield Host(cursor, lambda sql: cursor.execute(sql.encode()), connection.commit, connection.rollback)


def open_async_psycopg(database: HostDatabase, *, as_cursor: bool = False) -> Generator[Host]:
    """Connect with psycopg's asynchronous API."""
    with asyncio.Runner() as runner:
        connection = runner.run(psycopg.AsyncConnection.connect(database.url))
        yield Host(
            connection.cursor() if as_cursor else connection,
            lambda sql: runner.run(connection.execute(sql.encode())),
            lambda: runner.run(connection.commit()),
            lambda: runner.run(connection.rollback()),
            runner.run,
        )
        runner.run(connection.close())


def open_async_psycopg_cursor(database: HostDatabase) -> Generator[Host]:
    """Connect with psycopg's asynchronous API, and use one cursor."""
    return open_async_psycopg(database, as_cursor=True)


def sqlalchemy_url(database: HostDatabase, *, is_async: bool = False) -> str:
    """Return the URL of a database for SQLAlchemy."""
    driver = ("sqlite+aiosqlite" if is_async else "sqlite") if database.is_sqlite else "postgresql+psycopg"
    return f"{driver}:{database.url.partition(':')[2]}"


def open_sqlalchemy(database: HostDatabase, *, as_session: bool = False) -> Generator[Host]:
    """Connect with SQLAlchemy."""
    engine = create_engine(sqlalchemy_url(database))
    with Session(engine) if as_session else engine.connect() as connection:
        yield Host(connection, lambda sql: connection.execute(text(sql)), connection.commit, connection.rollback)
    engine.dispose()


def open_session(database: HostDatabase) -> Generator[Host]:
    """Open a session of SQLAlchemy."""
    return open_sqlalchemy(database, as_session=True)


def open_async_sqlalchemy(database: HostDatabase, *, as_session: bool = False) -> Generator[Host]:
    """Connect with SQLAlchemy's asynchronous API."""
    with asyncio.Runner() as runner:
        engine = create_async_engine(sqlalchemy_url(database, is_async=True))
        connection = AsyncSession(engine) if as_session else runner.run(_connected(engine))
        yield Host(
            connection,
            lambda sql: runner.run(connection.execute(text(sql))),
            lambda: runner.run(connection.commit()),
            lambda: runner.run(connection.rollback()),
            runner.run,
        )
        runner.run(connection.close())
        runner.run(engine.dispose())


async def _connected(engine: Any) -> Any:
    return await engine.connect()


def open_async_session(database: HostDatabase) -> Generator[Host]:
    """Open an asynchronous session of SQLAlchemy."""
    return open_async_sqlalchemy(database, as_session=True)


def open_django(database: HostDatabase, *, as_cursor: bool = False) -> Generator[Host]:
    """Connect with Django, outside its autocommit mode."""
    with django_connection(database.url) as connection:
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            yield Host(cursor if as_cursor else connection, cursor.execute, connection.commit, connection.rollback)


def open_django_cursor(database: HostDatabase) -> Generator[Host]:
    """Connect with Django, and use one cursor."""
    return open_django(database, as_cursor=True)


OF_SQLITE: tuple[OpenHost, ...] = (
    open_sqlite3,
    open_sqlite3_cursor,
    open_sqlalchemy,
    open_session,
    open_async_sqlalchemy,
    open_async_session,
    open_django,
    open_django_cursor,
)
OF_POSTGRES: tuple[OpenHost, ...] = (
    open_psycopg,
    open_psycopg_cursor,
    open_async_psycopg,
    open_async_psycopg_cursor,
    open_sqlalchemy,
    open_session,
    open_async_sqlalchemy,
    open_async_session,
    open_django,
    open_django_cursor,
)


def sqlite_database(folder: Path) -> HostDatabase:
    """Return a new SQLite database."""
    return HostDatabase(f"sqlite:///{folder / 'shop.db'}", "")
