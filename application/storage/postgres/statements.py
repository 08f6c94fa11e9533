"""The read models of one generation in PostgreSQL: statements that differ from SQLite."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from typing import Any

from psycopg import Cursor
from psycopg.rows import tuple_row

from ....projections.blocks import SHORT_BLOCK_BYTES, BucketKey, UsageBlock
from ....projections.high_water_marks import HighWaterMark
from ..sql_statements import Row, qualified_columns
from ..sql_writer import SqlReadModels
from .errors import translate_errors
from .generations import PostgresGenerations
from .read_model_schema import index_key

_FETCH_SIZE = 200
"""Rows with usage have up to 60 kB each."""
_NARROW_ROWS_FETCH_SIZE = 2_000
"""Other rows have about 100 bytes."""
_BLOCKS_FETCH_SIZE = 50
_WANTED = "unnest(?::bigint[], ?::bigint[], ?::text[]) AS wanted (customer, start, dimensions_key)"
_KEYS_PER_STATEMENT = 1_000
_MIN_COPIED_ROWS = 50
"""Fewer rows are inserted, which takes no round trip in a pipeline."""
_TOTALS_TYPES = "text", "bigint", "text", "bigint", "bigint", "text", "text"
_USAGE_COLUMN_TYPES = (
    *("bigint", "bigint", "bigint", "text", "bigint", "bigint", "bigint"),
    *_TOTALS_TYPES,
    *("bigint", "bytea", "text"),
)
_BUCKET_COLUMN_TYPES = (
    *("bigint", "bigint", "bigint", "bigint", "text"),
    *_TOTALS_TYPES,
    *("bigint", "bigint", "text"),
)


class PostgresReadModels(SqlReadModels):
    """The read models of one generation inside one transaction."""

    LENGTH_FUNCTION = "octet_length"
    POSITION_FUNCTION = "strpos"

    def __init__(self, generations: PostgresGenerations, generation: int) -> None:
        super().__init__(generation, generations.schema_prefix)
        self._generations = generations
        self.connection = generations.connection
        self._location = generations.datastore.location
        self._cursors = count(1)
        self._is_batch = False
        self._unstarted_pipeline: ExitStack | None = None
        """That of a batch before its first statement."""
        self._exhausted_cursors: list[str] = []
        self._position: int | None = None

    def for_generation(self, generation: int) -> "PostgresReadModels":
        """Return the read models of another generation in the same consistent state. Raise GenerationNotFound."""
        self._generations.require(generation)
        self._generations.lock_tables(generation)
        return PostgresReadModels(self._generations, generation)

    def position(self) -> int:
        """Return the position up to which the ledger is projected."""
        if self._position is None:  # no other transaction advances it while this one holds the lock
            self._position = self._generations.position(self.generation)
        return self._position

    def track(self, position: int) -> None:
        """Advance the position. Raise the library's IntegrityError unless it grows."""
        self._generations.track(self.generation, position)
        self._position = position

    @contextmanager
    def batch(self) -> Generator[None]:
        """Send the statements inside together, and receive their rows at the end, in one round trip.

        A batch without statements takes none.
        """
        self._is_batch = True
        try:
            with translate_errors(self._location), ExitStack() as pipeline:
                self._unstarted_pipeline = pipeline
                yield
        finally:
            self._is_batch = False
            self._unstarted_pipeline = None

    def start_pipeline(self) -> None:
        """Send statements without waiting for the responses of those before, until rows are fetched or copied.

        The pipeline ends with the transaction.
        """
        self.connection.start_pipeline()

    def select(self, statement: str, params: Sequence[object] = ()) -> Iterable[Row]:
        """Return the rows of a statement that selects few rows: at most those of one customer."""
        cursor = self._execute(statement, params)
        return cursor if self._is_batch else cursor.fetchall()

    def select_one(self, statement: str, params: Sequence[object] = ()) -> Row | None:
        """Return the first row of a statement, or None."""
        return self._execute(statement, params).fetchone()

    def stream(self, statement: str, params: Sequence[object] = ()) -> Iterator[Row]:
        """Return an iterator over the rows of a statement; other statements may be executed meanwhile.

        The rows are fetched in batches through a server-side cursor. After its last row it is closed when the next one
        is opened, because each open cursor takes about 75 kB of the server's memory. The end of the transaction closes
        the others.
        """
        return self._stream(statement, params, _FETCH_SIZE)

    def execute(self, statement: str, params: Sequence[object] = ()) -> None:
        """Execute a statement."""
        self._execute(statement, params)

    def select_customer_ids(self, customers: Sequence[str]) -> Iterable[Any]:
        """Return the name and id of each of these customers that exists."""
        statement = (
            "SELECT wanted.name, known.customer FROM unnest(?::text[]) AS wanted (name) CROSS JOIN LATERAL"
            f" (SELECT customer FROM {self.customers_table} AS stored WHERE stored.name = wanted.name LIMIT 1) AS known"
        )
        return self.select(statement, (list(customers),))

    def select_customer_names(self, customer_ids: Sequence[int]) -> Iterable[Any]:
        """Return the id and name of each of these customers that exists."""
        statement = f"SELECT customer, name FROM {self.customers_table} WHERE customer = ANY(?::bigint[])"
        return self.select(statement, (list(customer_ids),))

    def select_all_blocks(self, meter_id: int, bucket_seconds: int, first: int, start: int, end: int) -> Iterable[Row]:
        """Return the blocks of all customers with usage in [start, end), by the start of their bucket."""
        return self._stream(  # every block has a bucket, so the buckets lead to the blocks
            f"SELECT {qualified_columns('block', self.BLOCK_COLUMNS)} FROM {self.totals_table} AS bucket"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.usage_table} AS stored WHERE stored.meter = bucket.meter"
            " AND stored.customer = bucket.customer AND stored.start = bucket.start"
            " AND stored.dimensions_key = bucket.dimensions_key AND latest >= ? AND earliest < ? OFFSET 0) AS block"
            " WHERE bucket.meter = ? AND bucket.bucket_seconds = ? AND bucket.start >= ? AND bucket.start < ?"
            " ORDER BY bucket.start",
            (start, end, meter_id, bucket_seconds, first, end),
            _NARROW_ROWS_FETCH_SIZE,
        )

    def select_usage_of_customers(
        self, table: str, meter_id: int, customer_ids: Sequence[int], first: int, start: int, end: int
    ) -> Iterator[Row]:
        """Return the key and the encoded usage of these customers' blocks in a table with usage in [start, end)."""
        return self._stream(
            "SELECT block.* FROM unnest(?::bigint[]) WITH ORDINALITY AS wanted (customer, ordinal)"
            f" CROSS JOIN LATERAL (SELECT customer, start, dimensions, usages FROM {table} AS stored"
            " WHERE meter = ? AND stored.customer = wanted.customer AND start >= ? AND start < ?"
            " AND latest >= ? AND earliest < ? OFFSET 0) AS block ORDER BY wanted.ordinal",
            (list(customer_ids), meter_id, first, end, start, end),
            _FETCH_SIZE,
        )

    def select_blocks_of(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterator[Row]:
        """Return the blocks of each of these buckets, in the order of the ledger."""
        return self._select_wanted(
            keys,
            f"SELECT {qualified_columns('block', self.BLOCK_COLUMNS)},"
            f" CASE WHEN octet_length(block.usages) < {SHORT_BLOCK_BYTES} THEN block.usages END FROM {_WANTED}"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.usage_table} AS stored WHERE meter = ?"
            " AND stored.customer = wanted.customer AND stored.start = wanted.start"
            " AND stored.dimensions_key = wanted.dimensions_key ORDER BY first_position) AS block",
            (meter_id,),
        )

    def select_block_usage(self, meter_id: int, blocks: Sequence[UsageBlock]) -> Iterator[Row]:
        """Return the encoded usage of each block, in the order of the blocks."""
        for first in range(0, len(blocks), _BLOCKS_FETCH_SIZE):
            keys = [(*block.key, block.first_position) for block in blocks[first : first + _BLOCKS_FETCH_SIZE]]
            customers, starts, dimensions, positions = map(list, zip(*keys, strict=True))
            yield from self.select(
                "SELECT block.usages FROM unnest(?::bigint[], ?::bigint[], ?::text[], ?::bigint[]) WITH ORDINALITY"
                " AS wanted (customer, start, dimensions_key, first_position, ordinal)"
                f" CROSS JOIN LATERAL (SELECT usages FROM {self.usage_table} AS stored WHERE meter = ?"
                " AND stored.customer = wanted.customer AND stored.start = wanted.start"
                " AND stored.dimensions_key = wanted.dimensions_key AND stored.first_position = wanted.first_position"
                " LIMIT 1) AS block ORDER BY ordinal",  # LIMIT forces an index lookup for each row
                (customers, starts, list(map(index_key, dimensions)), positions, meter_id),
            )

    def select_last_short_blocks(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Return the last block of each of these buckets, followed by its encoded usage, if the block is short."""
        return self._select_wanted(
            keys,
            f"SELECT {qualified_columns('block', self.BLOCK_COLUMNS)}, block.usages FROM {_WANTED}"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.usage_table} AS stored WHERE meter = ?"
            " AND stored.customer = wanted.customer AND stored.start = wanted.start"
            " AND stored.dimensions_key = wanted.dimensions_key ORDER BY first_position DESC LIMIT 1) AS block"
            f" WHERE octet_length(block.usages) < {SHORT_BLOCK_BYTES}",
            (meter_id,),
        )

    def select_buckets(
        self, columns: str, meter_id: int, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterable[Row]:
        """Return these columns of the buckets that start in [start, end)."""
        statement = (
            f"SELECT {columns} FROM {self.totals_table}"
            " WHERE meter = ? AND bucket_seconds = ? AND start >= ? AND start < ?"
        )
        if customer_id is None:
            return self._stream(
                f"{statement} ORDER BY start", (meter_id, bucket_seconds, start, end), _NARROW_ROWS_FETCH_SIZE
            )
        return self.select(
            f"{statement} AND customer = ? ORDER BY start", (meter_id, bucket_seconds, start, end, customer_id)
        )

    def select_buckets_by_key(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Return each of these buckets that exists."""
        return self._select_wanted(
            keys,
            f"SELECT {qualified_columns('bucket', self.BUCKET_COLUMNS)} FROM {_WANTED}"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.totals_table} AS stored WHERE meter = ? AND bucket_seconds = ?"
            " AND stored.customer = wanted.customer AND stored.start = wanted.start"
            " AND stored.dimensions_key = wanted.dimensions_key LIMIT 1) AS bucket",
            (meter_id, bucket_seconds),
        )

    def select_buckets_at(
        self, meter_id: int, bucket_seconds: int, offsets: range, keys: Sequence[BucketKey]
    ) -> Iterable[Row]:
        """Return the buckets of a size that start at an offset from the start of each of these keys."""
        return self._select_wanted(  # each by its whole key, which either index finds without reading others
            keys,
            f"SELECT {qualified_columns('part', self.BUCKET_COLUMNS)} FROM {_WANTED}"
            f" CROSS JOIN generate_series(0, {offsets[-1]}, {offsets.step}) AS since"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.totals_table} AS stored WHERE meter = ? AND bucket_seconds = ?"
            " AND stored.customer = wanted.customer AND stored.start = wanted.start + since"
            " AND stored.dimensions_key = wanted.dimensions_key LIMIT 1) AS part",
            (meter_id, bucket_seconds),
        )

    def select_unsorted_blocks_of(self, columns: str, meter_id: int, months: Sequence[BucketKey]) -> Iterator[Row]:
        """Return these columns of the unsorted blocks of each of these months, in the order of the ledger."""
        return self._select_wanted(
            months,
            f"SELECT {qualified_columns('block', columns)} FROM {_WANTED}"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.unsorted_table} AS stored WHERE meter = ?"
            " AND stored.customer = wanted.customer AND stored.start = wanted.start"
            " AND stored.dimensions_key = wanted.dimensions_key ORDER BY first_position) AS block",
            (meter_id,),
        )

    def select_unsorted_sizes(self, meter_id: int, months: Sequence[BucketKey]) -> Iterator[Row]:
        """Return the key of each of these months with unsorted usage, and the length of its encoded usage."""
        return self._select_wanted(
            months,
            f"SELECT months.* FROM {_WANTED} CROSS JOIN LATERAL (SELECT customer, start, dimensions,"
            f" sum(octet_length(usages))::bigint FROM {self.unsorted_table} AS stored WHERE meter = ?"
            " AND stored.customer = wanted.customer AND stored.start = wanted.start"
            " AND stored.dimensions_key = wanted.dimensions_key GROUP BY customer, start, dimensions) AS months",
            (meter_id,),
        )

    def _select_wanted(self, keys: Sequence[BucketKey], statement: str, params: Sequence[object]) -> Iterator[Row]:
        """Return the rows of a statement that selects from _WANTED, the keys of these buckets."""
        key_batches = (keys[first : first + _KEYS_PER_STATEMENT] for first in range(0, len(keys), _KEYS_PER_STATEMENT))
        results = (self.select(statement, (*_key_arrays(batch), *params)) for batch in key_batches)
        return chain.from_iterable(list(results) if self._is_batch else results)

    def write_meter(self, row: Row) -> None:
        """Insert or replace the id, event name, rules, history and source of a meter."""
        self.execute(
            f"INSERT INTO {self.meters_table} VALUES (?, ?, ?, ?, ?) ON CONFLICT (meter) DO UPDATE"
            " SET event_name = excluded.event_name, rules = excluded.rules, history = excluded.history,"
            " source = excluded.source",
            row,
        )

    def write_customers(self, rows: Sequence[Row]) -> None:
        """Insert the ids and names of new customers."""
        self._write(f"INSERT INTO {self.customers_table} SELECT * FROM {_unnest(('bigint', 'text'))}", rows)

    def write_blocks(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows of meter, block and encoded usage into the table of usage or of unsorted usage."""
        if len(rows) < _MIN_COPIED_ROWS:
            self._write(f"INSERT INTO {table} SELECT * FROM {_unnest(_USAGE_COLUMN_TYPES)}", _with_keys(rows))
            return
        self.connection.end_pipeline()  # rows can't be copied in a pipeline
        statement = f"COPY {table} FROM STDIN (FORMAT BINARY)"
        with (
            translate_errors(self._location),
            self.connection.cursor() as cursor,
            cursor.copy(statement.encode()) as copy,
        ):
            copy.set_types(_USAGE_COLUMN_TYPES)
            for row in rows:
                copy.write_row((*row, index_key(row[3])))

    def delete_unsorted_blocks(self, meter_id: int, months: Sequence[BucketKey]) -> None:
        """Delete the unsorted usage of months."""
        if months:
            self._execute(
                f"DELETE FROM {self.unsorted_table} AS stored USING {_WANTED} WHERE meter = ?"
                " AND stored.customer = wanted.customer AND stored.start = wanted.start"
                " AND stored.dimensions_key = wanted.dimensions_key",
                (*_key_arrays(months), meter_id),
            )

    def replace_blocks(self, rows: Sequence[Row]) -> None:
        """Replace such rows, which are identified by their bucket and first position."""
        self._write(
            f"INSERT INTO {self.usage_table} SELECT * FROM {_unnest(_USAGE_COLUMN_TYPES)}"
            " ON CONFLICT (meter, customer, start, dimensions_key, first_position)"
            f" DO UPDATE SET ({self.BLOCK_VALUES}, usages) ="
            f" ({qualified_columns('excluded', f'{self.BLOCK_VALUES}, usages')})",
            _with_keys(rows),
        )

    def add_high_water_marks(self, marks: Sequence[HighWaterMark]) -> None:
        """Insert the high-water marks of new positions."""
        columns = "(position, recorded_at)"
        self._write(f"INSERT INTO {self.marks_table} {columns} SELECT * FROM {_unnest(('bigint', 'bigint'))}", marks)

    def write_totals(self, rows: Sequence[Row]) -> None:
        """Insert or replace rows of meter, bucket size, start, customer, dimension values, totals and changes."""
        self._write(
            f"INSERT INTO {self.totals_table} SELECT * FROM {_unnest(_BUCKET_COLUMN_TYPES)}"
            " ON CONFLICT (meter, bucket_seconds, start, customer, dimensions_key)"
            f" DO UPDATE SET ({self.BUCKET_VALUES}) = ({qualified_columns('excluded', self.BUCKET_VALUES)})",
            [(*row, index_key(row[4])) for row in rows],
        )

    def _write(self, statement: str, rows: Sequence[Row]) -> None:
        """Execute a statement that takes an array for each column."""
        if rows:
            self._execute(statement, list(map(list, zip(*rows, strict=True))))

    def _stream(self, statement: str, params: Sequence[object], fetch_size: int) -> Iterator[Row]:
        name = f"rows_{id(self)}_{next(self._cursors)}"
        with self.batch():
            while self._exhausted_cursors:
                self._execute(f"CLOSE {self._exhausted_cursors.pop()}")
            self._execute(f"DECLARE {name} NO SCROLL CURSOR FOR {statement}", params)
            fetched = self._execute(f"FETCH {fetch_size} FROM {name}")
        while len(rows := fetched.fetchall()) == fetch_size:
            yield from rows
            fetched = self._execute(f"FETCH {fetch_size} FROM {name}")
        self._exhausted_cursors.append(name)
        yield from rows

    def _execute(self, statement: str, params: Sequence[object] = ()) -> Cursor[Row]:
        with translate_errors(self._location):
            if self._unstarted_pipeline is not None:
                pipeline, self._unstarted_pipeline = self._unstarted_pipeline, None
                pipeline.enter_context(self.connection.pipeline())
            cursor = self.connection.cursor(row_factory=tuple_row, binary=True)
            return cursor.execute(statement.replace("?", "%b").encode(), params or None)


def _key_arrays(keys: Sequence[BucketKey]) -> tuple[list[int], list[int], list[str]]:
    """Return the columns of _WANTED for the keys of buckets."""
    customers, starts, dimensions = zip(*keys, strict=True)
    return list(customers), list(starts), list(map(index_key, dimensions))


def _with_keys(rows: Sequence[Row]) -> list[Row]:
    """Return rows of meter, block and encoded usage with the index keys of their dimension values."""
    return [(*row, index_key(row[3])) for row in rows]


def _unnest(types: Sequence[str]) -> str:
    """Return the table of parameters that are arrays of these types, one for each column."""
    return f"unnest({', '.join(f'?::{name}[]' for name in types)})"
