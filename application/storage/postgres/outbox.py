"""The outbox in a PostgreSQL database, as a relay uses it."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import Cursor
from psycopg.rows import tuple_row

from ....domain.errors import LedgerUnavailable
from ..outbox import Decisions, OutboxRow
from ..sql_outbox import SELECT_WAITING, SqlOutboxTable, missing_table_hint
from .connection import PostgresDatastore
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

    def process(self, limit: int, decide: Callable[[Sequence[OutboxRow]], Decisions]) -> int:
        """Store the decisions on waiting rows in the transaction that has locked them. See OutboxTable.

        Rows that another relay has locked are left to it.
        """
        with self.transaction() as cursor:
            cursor.execute(f"{self.sql(SELECT_WAITING)} FOR UPDATE SKIP LOCKED".encode(), (limit,))
            rows = [OutboxRow(*row) for row in cursor.fetchall()]
            if rows:
                self.store(cursor, decide(rows))
            return len(rows)

    @contextmanager
    def transaction(self) -> Generator[Cursor[Any]]:
        """Start a transaction and yield its cursor. It is committed at the end."""
        try:
            with (
                self._datastore.transaction_for("write") as connection,
                connection.cursor(row_factory=tuple_row) as cursor,
            ):
                yield cursor
        except TablesMissing as error:
            raise LedgerUnavailable(f"{error.message} {missing_table_hint('postgresql')}") from error

    def sql(self, statement: str, **names: str) -> str:
        """Return a statement of this table, with the placeholder of psycopg."""
        return super().sql(statement, **names).replace("?", "%s")

    def ids_condition(self, ids: Sequence[int]) -> tuple[str, str]:
        """Return the condition that a row has one of these ids, and its parameter."""
        return "id = ANY (%s::bigint[])", f"{{{','.join(map(str, ids))}}}"

    def close(self) -> None:
        """Close the connections."""
        self._datastore.close()
