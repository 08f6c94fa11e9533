"""The outbox in a SQLite database, as a relay uses it."""

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..outbox import Decisions, OutboxRow
from ..ports import LockTimeout
from ..sql_outbox import SELECT_WAITING, SqlOutboxTable, missing_table_hint
from .errors import LOCK_TIMEOUT_SECONDS, translate_errors, unavailable


class SQLiteOutboxTable(SqlOutboxTable):
    """The table of an outbox in a SQLite file. Each transaction has a connection of its own."""

    def __init__(self, file: str, table: str) -> None:
        super().__init__(table)
        self._file = file

    def process(self, last: int, limit: int, decide: Callable[[Sequence[OutboxRow]], Decisions]) -> int:
        """Store the decisions on waiting rows, which are selected before. See OutboxTable.

        No lock is held while they are decided, so that the host can write. Another relay may decide on the same rows:
        the identifiers let each meter event count once.
        """
        with self._connection() as connection:
            # Bytes that aren't UTF-8 become surrogates, which no meter event may have: that row alone is rejected.
            connection.text_factory = _with_surrogates
            selected = connection.execute(self.sql(SELECT_WAITING), (last, limit)).fetchall()
        rows = [OutboxRow(*row) for row in selected]
        if rows:
            decisions = decide(rows)
            with self.transaction() as cursor:
                self.store(cursor, decisions)
        return len(rows)

    def select_one(self, statement: str) -> Any:
        """Return the row of a statement outside a transaction, as a tuple."""
        with self._connection() as connection:
            return connection.execute(statement).fetchone()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Cursor]:
        """Start a transaction and yield its cursor. It is committed at the end."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection.cursor()
            connection.execute("COMMIT")

    def ids_condition(self, ids: Sequence[int]) -> tuple[str, str]:
        """Return the condition that a row has one of these ids, and its parameter."""
        return "id IN (SELECT value FROM json_each(?))", f"[{','.join(map(str, ids))}]"

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection]:
        """Open a connection. Closing it rolls back a transaction that was not committed."""
        uri = f"{Path(self._file).as_uri()}?mode=rw"  # a missing file is an error, and is not created
        with (
            translate_errors(self._file),
            closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_TIMEOUT_SECONDS)) as connection,
        ):
            connection.text_factory = _with_escapes
            try:
                yield connection
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    raise unavailable(self._file, f"{error}. {missing_table_hint('sqlite')}") from error
                if "locked" in str(error):
                    raise LockTimeout(
                        f"SQLite on {self._file!r}: another process held a lock for over {LOCK_TIMEOUT_SECONDS} "
                        "seconds; try again."
                    ) from error
                raise


def _with_surrogates(text: bytes) -> str:
    return text.decode(errors="surrogateescape")


def _with_escapes(text: bytes) -> str:
    """Return text that can be shown, whatever another program wrote."""
    return text.decode(errors="backslashreplace")
