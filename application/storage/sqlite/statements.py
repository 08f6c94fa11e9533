"""The read models of one generation in SQLite: statements that differ from PostgreSQL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from sqlite3 import Cursor
from typing import cast

import msgspec

from ....projections.blocks import SHORT_BLOCK_BYTES, BucketKey, UsageBlock
from ....projections.buckets import bucket_starts
from ....projections.high_water_marks import HighWaterMark
from ....projections.models import ProjectedMeter
from ..sql_statements import Row, qualified_columns
from ..sql_writer import SqlReadModels
from .generations import SQLiteGenerations
from .pool import DatabaseConnection

_KEYS_PER_STATEMENT = 1_000
_SHORT_USAGE = f"CASE WHEN length(usages) < {SHORT_BLOCK_BYTES} THEN usages END"


class SQLiteReadModels(SqlReadModels):
    """The read models of one generation inside one transaction."""

    LENGTH_FUNCTION = "length"
    POSITION_FUNCTION = "instr"

    def __init__(self, generations: SQLiteGenerations, generation: int, position: int | None = None) -> None:
        """Read a generation, and its position unless that is known."""
        super().__init__(generation)
        self._generations = generations
        self._connection = cast(DatabaseConnection, generations.cursor.sqlite_cursor.connection)
        self._meters: Mapping[str, ProjectedMeter] | None = None
        self._position = position

    def for_generation(self, generation: int) -> "SQLiteReadModels":
        """Return the read models of another generation in the same consistent state. Raise GenerationNotFound."""
        self._generations.require(generation)
        return SQLiteReadModels(self._generations, generation)

    def position(self) -> int:
        """Return the position up to which the ledger is projected."""
        if self._position is None:
            self._position = self._generations.position(self.generation)
        return self._position

    def track(self, position: int) -> None:
        """Advance the position. Raise the library's IntegrityError unless it grows."""
        self._generations.track(self.generation, position)
        self._position = position

    def select(self, statement: str, params: Sequence[object] = ()) -> Cursor:
        """Return an iterator over the rows of a statement; other statements may be executed meanwhile."""
        return self._connection.open_cursor().execute(statement, tuple(params))  # pyright: ignore[reportArgumentType]

    stream = select

    def select_one(self, statement: str, params: Sequence[object] = ()) -> Row | None:
        """Return the first row of a statement, or None."""
        return self._execute(statement, params).fetchone()

    def execute(self, statement: str, params: Sequence[object] = ()) -> None:
        """Execute a statement."""
        self._execute(statement, params)

    def _execute(self, statement: str, params: Sequence[object]) -> Cursor:
        """Execute a statement with a cursor that the caller drops at once."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(statement, tuple(params))  # pyright: ignore[reportArgumentType]

    def _select_each(self, statement: str, all_params: Iterable[Sequence[object]]) -> Iterator[Row]:
        """Yield the rows of a statement for each of some parameters.

        A `yield from` would close the cursor when the generator ends, also if that is after the end of the connection.
        """
        cursor = self._connection.open_cursor()
        return chain.from_iterable(
            cursor.execute(statement, params)  # pyright: ignore[reportArgumentType]
            for params in all_params
        )

    def select_customer_ids(self, customers: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Return the name and id of each of these customers that exists."""
        for first in range(0, len(customers), _KEYS_PER_STATEMENT):
            names = customers[first : first + _KEYS_PER_STATEMENT]
            placeholders = ",".join("?" * len(names))
            yield from self.select(
                f"SELECT name, customer FROM {self.customers_table} WHERE name IN ({placeholders})", names
            )

    def select_customer_names(self, customer_ids: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Return the id and name of each of these customers that exists."""
        statement = f"SELECT customer, name FROM {self.customers_table} WHERE customer = ?"
        return self._select_each(statement, ((customer_id,) for customer_id in customer_ids))

    def select_all_blocks(self, meter_id: int, bucket_seconds: int, first: int, start: int, end: int) -> Iterable[Row]:
        """Return the blocks of all customers with usage in [start, end), by the start of their bucket."""
        # Every block has a bucket, so the buckets lead to the blocks. Without the +, SQLite scans all blocks of the
        # customer in the range for each bucket.
        return self.select(
            f"SELECT {qualified_columns('stored', self.BLOCK_COLUMNS)}"
            f" FROM {self.totals_table} AS bucket CROSS JOIN {self.usage_table} AS stored"
            " ON stored.meter = bucket.meter AND stored.customer = bucket.customer"
            " AND stored.start = +bucket.start AND stored.dimensions = bucket.dimensions"
            " WHERE bucket.meter = ? AND bucket.bucket_seconds = ? AND bucket.start >= ? AND bucket.start < ?"
            " AND latest >= ? AND earliest < ? ORDER BY bucket.start",
            (meter_id, bucket_seconds, first, end, start, end),
        )

    def select_usage_of_customers(
        self, table: str, meter_id: int, customer_ids: Sequence[int], first: int, start: int, end: int
    ) -> Iterator[Row]:
        """Return the key and the encoded usage of these customers' blocks in a table with usage in [start, end)."""
        statement = (
            f"SELECT customer, start, dimensions, usages FROM {table} WHERE meter = ? AND customer = ?"
            " AND start >= ? AND start < ? AND latest >= ? AND earliest < ? ORDER BY start"
        )
        keys = ((meter_id, customer_id, first, end, start, end) for customer_id in customer_ids)
        return self._select_each(statement, keys)

    def select_block_usage(self, meter_id: int, blocks: Sequence[UsageBlock]) -> Iterator[tuple[bytes]]:
        """Return the encoded usage of each block, in the order of the blocks."""
        statement = (
            f"SELECT usages FROM {self.usage_table} WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position = ?"
        )
        keys = ((meter_id, *block.key, block.first_position) for block in blocks)
        return self._select_each(statement, keys)

    def select_last_short_blocks(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterator[Row]:
        """Return the last block of each of these buckets, followed by its encoded usage, if the block is short."""
        statement = (
            f"SELECT {qualified_columns('block', self.BLOCK_COLUMNS)}, usages FROM wanted"
            f" CROSS JOIN {self.usage_table} AS block ON block.rowid = (SELECT rowid FROM {self.usage_table} AS stored"
            " WHERE meter = ? AND stored.customer = wanted.customer AND stored.start = wanted.start"
            " AND stored.dimensions = wanted.dimensions ORDER BY first_position DESC LIMIT 1)"
            f" WHERE length(usages) < {SHORT_BLOCK_BYTES}"
        )
        return self._select_wanted(keys, statement, (meter_id,))

    def select_buckets(
        self, columns: str, meter_id: int, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterable[Row]:
        """Return these columns of the buckets that start in [start, end)."""
        if customer_id is None:
            return self.select(
                f"SELECT {columns} FROM {self.totals_table}"
                " WHERE meter = ? AND bucket_seconds = ? AND start >= ? AND start < ?",
                (meter_id, bucket_seconds, start, end),
            )
        # One index lookup for each bucket, instead of reading the rows of all customers.
        starts = msgspec.json.encode(list(bucket_starts(start, end, bucket_seconds))).decode()
        return self.select(
            f"SELECT {columns} FROM (SELECT value AS start FROM json_each(?)) CROSS JOIN {self.totals_table}"
            " USING (start) WHERE meter = ? AND bucket_seconds = ? AND customer = ?",
            (starts, meter_id, bucket_seconds, customer_id),
        )

    def select_buckets_by_key(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterator[Row]:
        """Return each of these buckets that exists."""
        statement = (
            f"SELECT {self.BUCKET_COLUMNS} FROM wanted CROSS JOIN {self.totals_table}"
            " USING (customer, start, dimensions) WHERE meter = ? AND bucket_seconds = ?"
        )
        return self._select_wanted(keys, statement, (meter_id, bucket_seconds))

    def select_buckets_at(
        self, meter_id: int, bucket_seconds: int, offsets: range, keys: Sequence[BucketKey]
    ) -> Iterator[Row]:
        """Return the buckets of a size that start at an offset from the start of each of these keys."""
        statement = (  # one index lookup for each, because no index begins with the customer
            f"SELECT {qualified_columns('part', self.BUCKET_COLUMNS)} FROM wanted"
            f" CROSS JOIN (VALUES {','.join(f'({offset})' for offset in offsets)}) AS since CROSS JOIN"
            f" {self.totals_table} AS part ON part.start = wanted.start + since.column1"
            " AND part.customer = wanted.customer AND part.dimensions = wanted.dimensions"
            " WHERE meter = ? AND bucket_seconds = ?"
        )
        return self._select_wanted(keys, statement, (meter_id, bucket_seconds))

    def select_blocks_of(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterator[Row]:
        """Return the blocks of each of these buckets, in the order of the ledger."""
        statement = (
            f"SELECT {self.BLOCK_COLUMNS}, {_SHORT_USAGE} FROM wanted CROSS JOIN {self.usage_table}"
            " USING (customer, start, dimensions) WHERE meter = ? ORDER BY first_position"
        )
        return self._select_wanted(keys, statement, (meter_id,))

    def select_unsorted_blocks_of(self, columns: str, meter_id: int, months: Sequence[BucketKey]) -> Iterator[Row]:
        """Return these columns of the unsorted blocks of each of these months, in the order of the ledger."""
        statement = (
            f"SELECT {columns} FROM wanted CROSS JOIN {self.unsorted_table}"
            " USING (customer, start, dimensions) WHERE meter = ? ORDER BY first_position"
        )
        return self._select_wanted(months, statement, (meter_id,))

    def select_unsorted_sizes(self, meter_id: int, months: Sequence[BucketKey]) -> Iterator[Row]:
        """Return the key of each of these months with unsorted usage, and the length of its encoded usage."""
        statement = (
            f"SELECT customer, start, dimensions, sum(length(usages)) FROM wanted CROSS JOIN {self.unsorted_table}"
            " USING (customer, start, dimensions) WHERE meter = ? GROUP BY customer, start, dimensions"
        )
        return self._select_wanted(months, statement, (meter_id,))

    def _select_wanted(self, keys: Sequence[BucketKey], statement: str, params: Sequence[object]) -> Iterator[Row]:
        """Return the rows of a statement that joins the table `wanted` of these keys."""
        for first in range(0, len(keys), _KEYS_PER_STATEMENT):
            chunk = keys[first : first + _KEYS_PER_STATEMENT]
            wanted = f"WITH wanted (customer, start, dimensions) AS (VALUES {','.join(['(?,?,?)'] * len(chunk))})"
            yield from self.select(f"{wanted} {statement}", (*chain.from_iterable(chunk), *params))

    def meters(self) -> Mapping[str, ProjectedMeter]:
        """Return the meters, by event name. A query of all meters asks for them again for each: they are read once."""
        if self._meters is None:
            self._meters = super().meters()
        return self._meters

    def write_meter(self, row: Row) -> None:
        """Insert or replace the id, event name, rules, history and source of a meter."""
        self._meters = None
        self.execute(f"INSERT OR REPLACE INTO {self.meters_table} VALUES (?, ?, ?, ?, ?)", row)

    def write_customers(self, rows: Sequence[Row]) -> None:
        """Insert the ids and names of new customers."""
        self._connection.executemany(f"INSERT INTO {self.customers_table} (customer, name) VALUES (?, ?)", rows)

    def write_blocks(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows of meter, block and encoded usage into the table of usage or of unsorted usage."""
        self._write("INSERT", table, rows)

    def delete_unsorted_blocks(self, meter_id: int, months: Sequence[BucketKey]) -> None:
        """Delete the unsorted usage of months."""
        self._connection.executemany(
            f"DELETE FROM {self.unsorted_table} WHERE meter = ? AND customer = ? AND start = ? AND dimensions = ?",
            [(meter_id, *month) for month in months],
        )

    def replace_blocks(self, rows: Sequence[Row]) -> None:
        """Replace such rows, which are identified by their bucket and first position."""
        if rows:  # INSERT OR REPLACE would move the rows to the end of the table, and change its index
            self._connection.executemany(
                f"INSERT INTO {self.usage_table} VALUES ({','.join('?' * len(rows[0]))})"
                f" ON CONFLICT ({self.BLOCK_KEY}) DO UPDATE SET ({self.BLOCK_VALUES}, usages) ="
                f" ({qualified_columns('excluded', f'{self.BLOCK_VALUES}, usages')})",
                rows,
            )

    def add_high_water_marks(self, marks: Sequence[HighWaterMark]) -> None:
        """Insert the high-water marks of new positions."""
        self._connection.executemany(f"INSERT INTO {self.marks_table} (position, recorded_at) VALUES (?, ?)", marks)

    def write_totals(self, rows: Sequence[Row]) -> None:
        """Insert or replace rows of meter, bucket size, start, customer, dimension values, totals and changes."""
        self._write("INSERT OR REPLACE", self.totals_table, rows)

    def _write(self, verb: str, table: str, rows: Sequence[Row]) -> None:
        """Execute an INSERT of rows with all columns of a table."""
        if rows:
            placeholders = ",".join("?" * len(rows[0]))
            self._connection.executemany(f"{verb} INTO {table} VALUES ({placeholders})", rows)
