"""The outbox in a PostgreSQL database, as a relay uses it."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from psycopg import Cursor
from psycopg.rows import tuple_row

from ....domain.errors import LedgerUnavailable
from ..outbox import Decisions, OutboxRow
from ..sql_outbox import SELECT_WAITING, SqlOutboxTable, missing_table_hint
from .connection import PostgresDatastore, TransactionMode
from .errors import TablesMissing
from .settings import PostgresSettings

MAX_CONNECTIONS = 2
"""A program relays in one thread, and reads the lag in another."""


class PostgresOutboxTable(SqlOutboxTable):
    """The table of an outbox in a PostgreSQL database."""

    def __init__(self, settings: PostgresSettings, table: str) -> None:
        super().__init__(table)
        schema = table.rpartition(".")[0]
        self._datastore = PostgresDatastore(settings, schema or "public", MAX_CONNECTIONS)

    def process(self, last: int, limit: int, decide: Callable[[Sequence[OutboxRow]], Decisions]) -> int:
        """Store the decisions on waiting rows in the transaction that has locked them. See OutboxTable.

        Rows that another relay has locked are left to it.
        """
        with self.transaction() as cursor:
            cursor.execute(f"{self.sql(SELECT_WAITING)} FOR UPDATE SKIP LOCKED".encode(), (last, limit))
            rows = [OutboxRow(*row) for row in cursor.fetchall()]
            if rows:
                self.store(cursor, decide(rows))
            return len(rows)

    def select_one(self, statement: str) -> Any:
        """Return the row of a statement outside a transaction, as a tuple."""
        with self._cursor("statement") as cursor:
            return cursor.execute(statement.encode()).fetchone()

    def transaction(self) -> AbstractContextManager[Cursor[Any]]:
        """Start a transaction and yield its cursor. It is committed at the end."""
        return self._cursor("write")

    def sql(self, statement: str, **names: str) -> str:
        """Return a statement of this table, with the placeholder of psycopg."""
        return super().sql(statement, **names).replace("?", "%s")

    def ids_condition(self, ids: Sequence[int]) -> tuple[str, str]:
        """Return the condition that a row has one of these ids, and its parameter."""
        return "id = ANY (%s::bigint[])", f"{{{','.join(map(str, ids))}}}"

    def close(self) -> None:
        """Close the connections."""
        self._datastore.close()

    @contextmanager
    def _cursor(self, mode: TransactionMode) -> Generator[Cursor[Any]]:
        try:
            with (
                self._datastore.transaction_for(mode) as connection,
                connection.cursor(row_factory=tuple_row) as cursor,
            ):
                yield cursor
        except TablesMissing as error:
            raise LedgerUnavailable(f"{error.message} {missing_table_hint('postgresql')}") from error
