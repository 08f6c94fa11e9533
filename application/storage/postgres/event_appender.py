"""The ledger inside a PostgreSQL transaction that excludes other writers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.rows import tuple_row

from ....projections.models import LedgerEvent
from ..key_value import KeyValueEntry
from ..ports import EventRow, PositionedEventRow
from ..recorded_time import recorded_at_of
from ..sql_events import SELECT_PAGE, SELECT_STORED_ROWS
from .connection import MIN_VERSION_TRANSACTION_TIMEOUT
from .monitored_connection import MonitoredConnection

if TYPE_CHECKING:
    from .event_recorder import PostgresEventRecorder


class LastEvent(NamedTuple):
    """The last event of a ledger when the lock was acquired. `time` is that of its recording.

    The position is 0 if the ledger is empty; the time is None then, and if the event doesn't begin with one.
    """

    position: int
    time: bytes | None


class PostgresEventAppender:
    """The ledger inside a transaction that excludes other writers."""

    def __init__(self, recorder: "PostgresEventRecorder", connection: MonitoredConnection, last: LastEvent) -> None:
        self._recorder = recorder
        self._connection = connection
        self._last = last

    def head(self) -> int:
        """Return the position of the newest event; 0 in an empty ledger."""
        return self._last.position

    def read_page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Return up to `limit` events after a position, in order."""
        return self._recorder.restore(self._select(SELECT_PAGE, (after, limit)))

    def insert_rows(
        self, rows: Sequence[EventRow], expected_versions: Mapping[str, int] | None = None
    ) -> Sequence[int]:
        """Store rows and return their positions."""
        positions = self._recorder.insert_rows_in_transaction(self._connection, rows, self._last, expected_versions)
        times = [self._last.time, *(recorded_at_of(row[3]) for row in rows)]
        last_time = max((time for time in times if time is not None), default=None)
        self._last = LastEvent(self._last.position + len(rows), last_time)
        return positions

    def insert_entries(self, entries: Sequence[KeyValueEntry]) -> None:
        """Store key-value entries, whose table must exist. Raise EntryExists if one exists."""
        self._recorder.key_value_store().insert_entries(self._connection, entries)

    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]:
        """Return the rows at the positions from `first` to `last`, inclusive, in order."""
        return self._recorder.restore(self._select(SELECT_STORED_ROWS, (first, last)))

    def allow_long_transaction(self) -> None:
        """Let this transaction take any time: the server ends others after ten minutes."""
        if self._connection.info.server_version >= MIN_VERSION_TRANSACTION_TIMEOUT:
            self._connection.execute("SET LOCAL transaction_timeout = 0")

    def _select(self, statement: str, params: Sequence[object]) -> list[Any]:
        with self._connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            return cursor.execute(self._recorder.sql(statement), params).fetchall()
