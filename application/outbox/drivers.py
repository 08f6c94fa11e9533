"""The connections of host programs: how a statement is executed on each kind of them, in their transactions.

A connection can only be of a package that is imported already, so none is imported here.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ...domain.errors import InvalidParameter
from ...domain.text import abbreviated_repr
from ..storage.outbox import INSERTED_COLUMNS
from ..storage.sql_outbox import DIALECTS, insert_sql

Row = Sequence[object]


class Driver(NamedTuple):
    """How statements are executed on the connections of some classes of a module.

    `execute` runs a statement without parameters, or once for each row of parameters; its result is a coroutine if
    `is_async`. It neither commits nor opens a connection.
    """

    module: str
    classes: tuple[str, ...]
    placeholder: Callable[[str], str]
    dialect: Callable[[Any], str]
    execute: Callable[[Any, str, Sequence[Row]], Any]
    is_async: bool = False


def find_driver(connection: object) -> Driver:
    """Return the driver of a connection or a cursor. Raise InvalidParameter."""
    for driver in DRIVERS:
        module = sys.modules.get(driver.module)
        classes = tuple(_classes(module, driver.classes)) if module is not None else ()
        if isinstance(connection, classes):
            dialect = driver.dialect(connection)
            if dialect not in DIALECTS:
                raise InvalidParameter(
                    f"An outbox is in PostgreSQL or SQLite, but 'connection' is one to {dialect!r}.",
                    field="connection",
                    value=connection,
                )
            return driver
    raise InvalidParameter(
        "'connection' must be a connection or a cursor of psycopg, sqlite3 or Django, or a connection or session of "
        f"SQLAlchemy, not {abbreviated_repr(connection)}.",
        field="connection",
        value=connection,
    )


def insert_statement(driver: Driver, table: str) -> str:
    """Return the statement that inserts a row by this driver."""
    return insert_sql(table, [driver.placeholder(column) for column in INSERTED_COLUMNS])


def _classes(module: object, names: Sequence[str]) -> Iterator[type]:
    for name in names:
        found = getattr(module, name, None)
        if isinstance(found, type):
            yield found


# --- DB-API cursors: sqlite3, psycopg, Django ---------------------------------------------------------


def _execute_on_cursor(cursor: Any, statement: str, rows: Sequence[Row]) -> None:
    """Execute a statement on a cursor, or on a connection of sqlite3, which has the same methods."""
    if len(rows) > 1:
        cursor.executemany(statement, rows)
    else:
        cursor.execute(statement, *rows)


def _execute_on_connection(connection: Any, statement: str, rows: Sequence[Row]) -> None:
    with connection.cursor() as cursor:
        _execute_on_cursor(cursor, statement, rows)


async def _execute_on_async_cursor(cursor: Any, statement: str, rows: Sequence[Row]) -> None:
    await (cursor.executemany(statement, rows) if len(rows) > 1 else cursor.execute(statement, *rows))


async def _execute_on_async_connection(connection: Any, statement: str, rows: Sequence[Row]) -> None:
    async with connection.cursor() as cursor:
        await _execute_on_async_cursor(cursor, statement, rows)


def _vendor_of_wrapper(wrapper: Any) -> str:
    return wrapper.vendor


def _vendor_of_cursor(cursor: Any) -> str:
    return cursor.db.vendor


# --- SQLAlchemy ---------------------------------------------------------------------------------------


def _execute_on_sqlalchemy(connection: Any, statement: str, rows: Sequence[Row]) -> Any:
    """Execute a statement, or return the coroutine that does."""
    text = sys.modules["sqlalchemy"].text(statement)
    if not rows:
        return connection.execute(text)
    return connection.execute(text, [dict(zip(INSERTED_COLUMNS, row, strict=True)) for row in rows])


def _dialect_of_connection(connection: Any) -> str:
    return connection.dialect.name


def _dialect_of_session(session: Any) -> str:
    return session.get_bind().dialect.name


def _always(value: str) -> Callable[[Any], str]:
    return lambda _: value


_QMARK, _FORMAT = _always("?"), _always("%s")
_NAMED = ":{}".format
_SQLITE, _POSTGRESQL = _always("sqlite"), _always("postgresql")
_ASYNCIO, _ASYNC_SESSIONS = "sqlalchemy.ext.asyncio", ("AsyncSession", "async_scoped_session")
_DJANGO = "django.db.backends.base.base"

DRIVERS = (
    Driver("sqlite3", ("Connection", "Cursor"), _QMARK, _SQLITE, _execute_on_cursor),
    Driver("psycopg", ("Connection",), _FORMAT, _POSTGRESQL, _execute_on_connection),
    Driver("psycopg", ("Cursor",), _FORMAT, _POSTGRESQL, _execute_on_cursor),
    Driver("psycopg", ("AsyncConnection",), _FORMAT, _POSTGRESQL, _execute_on_async_connection, is_async=True),
    Driver("psycopg", ("AsyncCursor",), _FORMAT, _POSTGRESQL, _execute_on_async_cursor, is_async=True),
    Driver("sqlalchemy.engine", ("Connection",), _NAMED, _dialect_of_connection, _execute_on_sqlalchemy),
    Driver("sqlalchemy.orm", ("Session", "scoped_session"), _NAMED, _dialect_of_session, _execute_on_sqlalchemy),
    Driver(_ASYNCIO, ("AsyncConnection",), _NAMED, _dialect_of_connection, _execute_on_sqlalchemy, is_async=True),
    Driver(_ASYNCIO, _ASYNC_SESSIONS, _NAMED, _dialect_of_session, _execute_on_sqlalchemy, is_async=True),
    Driver(_DJANGO, ("BaseDatabaseWrapper",), _FORMAT, _vendor_of_wrapper, _execute_on_connection),
    Driver("django.utils.connection", ("ConnectionProxy",), _FORMAT, _vendor_of_wrapper, _execute_on_connection),
    Driver("django.db.backends.utils", ("CursorWrapper",), _FORMAT, _vendor_of_cursor, _execute_on_cursor),
)
"""The drivers by what a connection is."""
