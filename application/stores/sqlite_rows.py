"""The rows of one generation of read models on SQLite, inside one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from sqlite3 import Cursor
from typing import TYPE_CHECKING

from eventsourcing.sqlite import SQLiteCursor

from ...domain.instants import MICROSECONDS_PER_SECOND
from ...projections.runs import BucketKey, Run
from .stored_rows import SHORT_BYTES, Row, StoredRows, columns_of

if TYPE_CHECKING:
    from .sqlite_views import SQLiteViews

_KEYS_A_STATEMENT = 1_000
_MARKS = ",".join("?" * 13)


class SQLiteRows(StoredRows):
    """The rows of one generation inside one transaction."""

    def __init__(self, views: "SQLiteViews", tracking_cursor: SQLiteCursor, generation: int) -> None:
        super().__init__(generation)
        self._views = views
        self._tracking_cursor = tracking_cursor
        self._connection = tracking_cursor.sqlite_cursor.connection

    def beside(self, generation: int) -> "SQLiteRows":
        """The rows of another generation, in the same consistent state. Raises NoGeneration."""
        return self._views.rows(self._tracking_cursor, generation)

    def position(self) -> int:
        """The position up to which the ledger is folded in."""
        return self._views.tracked_position(self._tracking_cursor, self.generation)

    def track(self, position: int) -> None:
        """Advance the position; refused by the library unless it grows."""
        self._views.track(self._tracking_cursor, self.generation, position)

    def select(self, statement: str, params: Sequence[object] = ()) -> Cursor:
        """The rows of a statement, however many, while others are executed too."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(statement, tuple(params))  # pyright: ignore[reportArgumentType]

    stream = select

    def select_one(self, statement: str, params: Sequence[object] = ()) -> Row | None:
        """The first row of a statement, if there is any."""
        return self.select(statement, params).fetchone()

    def execute(self, statement: str, params: Sequence[object] = ()) -> None:
        """Do what a statement says."""
        self.select(statement, params)

    def select_names(self, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Number and name of those of the customers of `numbers` that are kept."""
        statement = f"SELECT customer, name FROM {self.customers_table} WHERE customer = ?"
        return chain.from_iterable(self.select(statement, (number,)) for number in numbers)

    def select_runs_of_all(self, meter: int, bucket_seconds: int, first: int, start: int, end: int) -> Iterable[Row]:
        """The runs of all customers with usages in [start, end), by start of their bucket."""
        # Buckets lead to them: there is one wherever there are usages. Without the + SQLite goes, for each, through all
        # that its customer has in the range.
        return self.select(
            f"SELECT {columns_of('kept', self.RUN)}"
            f" FROM {self.totals_table} AS bucket CROSS JOIN {self.usage_table} AS kept"
            " ON kept.meter = bucket.meter AND kept.customer = bucket.customer"
            " AND kept.start = +bucket.start AND kept.dimensions = bucket.dimensions"
            " WHERE bucket.meter = ? AND bucket.bucket_seconds = ? AND bucket.start >= ? AND bucket.start < ?"
            " AND latest >= ? AND earliest < ? ORDER BY bucket.start",
            (meter, bucket_seconds, first, end, start, end),
        )

    def select_usages(self, meter: int, runs: Sequence[Run]) -> Iterator[tuple[bytes]]:
        """The usages of each of `runs`, in this order."""
        statement = (
            f"SELECT usages FROM {self.usage_table} WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position = ?"
        )
        keys = ((meter, *run.key, run.first_position) for run in runs)
        return chain.from_iterable(self.select(statement, key) for key in keys)

    def select_short(self, meter: int, keys: Sequence[BucketKey]) -> Iterator[Row]:
        """Of each of the buckets of `keys` the last run, followed by its usages, if these take few bytes."""
        statement = (
            f"SELECT * FROM (SELECT {self.RUN}, CASE WHEN length(usages) < {SHORT_BYTES} THEN usages END AS short"
            f" FROM {self.usage_table} WHERE meter = ? AND customer = ? AND start = ? AND dimensions = ?"
            " ORDER BY first_position DESC LIMIT 1) WHERE short IS NOT NULL"
        )
        return chain.from_iterable(self.select(statement, (meter, *key)) for key in keys)

    def select_buckets(
        self, meter: int, bucket_seconds: int, customer: int | None, start: int, end: int
    ) -> Iterable[Row]:
        """Customer, start, dimension values and totals of the buckets that begin in [start, end)."""
        source, where, params = self.totals_table, "", ()
        if customer is not None:  # one seek a bucket, not one row a customer
            step = bucket_seconds * MICROSECONDS_PER_SECOND
            source = (
                "(WITH RECURSIVE begins (start) AS (SELECT ? WHERE ? < ? UNION ALL"
                " SELECT start + ? FROM begins WHERE start + ? < ?) SELECT * FROM begins)"
                f" CROSS JOIN {self.totals_table} USING (start)"
            )
            where, params = "AND customer = ?", (start, start, end, step, step, end)
        return self.select(
            f"SELECT customer, start, dimensions, {self.TOTALS} FROM {source}"
            f" WHERE meter = ? AND bucket_seconds = ? AND start >= ? AND start < ? {where}",
            (*params, meter, bucket_seconds, start, end, *(() if customer is None else (customer,))),
        )

    def select_kept(self, meter: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterator[Row]:
        """Customer, start, dimension values and totals of those of the buckets of `keys` that are kept."""
        for first in range(0, len(keys), _KEYS_A_STATEMENT):
            chunk = keys[first : first + _KEYS_A_STATEMENT]
            yield from self.select(
                f"WITH wanted (customer, start, dimensions) AS (VALUES {','.join(['(?,?,?)'] * len(chunk))})"
                f" SELECT customer, start, dimensions, {self.TOTALS} FROM wanted CROSS JOIN {self.totals_table}"
                " USING (customer, start, dimensions) WHERE meter = ? AND bucket_seconds = ?",
                (*chain.from_iterable(chunk), meter, bucket_seconds),
            )

    def write_meter(self, row: Row) -> None:
        """Keep number, event name, rules and history of a meter, in place of what was kept of it."""
        self.execute(f"INSERT OR REPLACE INTO {self.meters_table} VALUES (?, ?, ?, ?)", row)

    def write_customers(self, rows: Sequence[Row]) -> None:
        """Keep numbers and names of new customers."""
        self._connection.executemany(f"INSERT INTO {self.customers_table} (customer, name) VALUES (?, ?)", rows)

    def write_usages(self, rows: Sequence[Row]) -> None:
        """Keep new rows of meter, run and usages."""
        self._connection.executemany(f"INSERT INTO {self.usage_table} VALUES ({_MARKS})", rows)

    def rewrite_usages(self, rows: Sequence[Row]) -> None:
        """Keep such rows in place of those of the same bucket and first position."""
        self._connection.executemany(f"INSERT OR REPLACE INTO {self.usage_table} VALUES ({_MARKS})", rows)

    def write_totals(self, rows: Sequence[Row]) -> None:
        """Keep rows of meter, bucket size, start, customer, dimension values and totals, in place of earlier ones."""
        self._connection.executemany(
            f"INSERT OR REPLACE INTO {self.totals_table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
