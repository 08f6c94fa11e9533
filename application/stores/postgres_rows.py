"""The rows of one generation of read models on PostgreSQL, inside one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from psycopg import Connection, Cursor
from psycopg.rows import tuple_row

from ...projections.runs import BucketKey, Run
from .postgres_errors import translated
from .postgres_tables import dimensions_key
from .stored_rows import SHORT_BYTES, Row, StoredRows, columns_of

if TYPE_CHECKING:
    from .postgres_views import PostgresViews

_ROWS_A_FETCH = 200
"""Rows with their usages take up to 60 kB each."""
_SLIM_ROWS_A_FETCH = 2_000
"""Others take some 100 bytes."""
_RUNS_A_FETCH = 50
_USAGE_TYPES = (
    *("bigint", "bigint", "bigint", "text", "bigint", "bigint", "bigint"),
    *("text", "bigint", "text", "bigint", "bigint", "bytea", "text"),
)


class PostgresRows(StoredRows):
    """The rows of one generation inside one transaction."""

    def __init__(self, views: "PostgresViews", connection: Connection[Any], generation: int) -> None:
        super().__init__(generation, views.prefix)
        self._views = views
        self._connection = connection
        self._cursors = count(1)
        self._position: int | None = None

    def beside(self, generation: int) -> "PostgresRows":
        """The rows of another generation, in the same consistent state. Raises NoGeneration."""
        return self._views.rows(self._connection, generation)

    def position(self) -> int:
        """The position up to which the ledger is folded in."""
        if self._position is None:  # nobody else advances it meanwhile
            self._position = self._views.tracked_position(self._connection, self.generation)
        return self._position

    def track(self, position: int) -> None:
        """Advance the position; refused by the library unless it grows."""
        self._views.track(self._connection, self.generation, position)
        self._position = position

    def select(self, statement: str, params: Sequence[object] = ()) -> list[Row]:
        """The rows of a statement that gives few: no more than of one customer."""
        return self._executed(statement, params).fetchall()

    def select_one(self, statement: str, params: Sequence[object] = ()) -> Row | None:
        """The first row of a statement, if there is any."""
        return self._executed(statement, params).fetchone()

    def stream(self, statement: str, params: Sequence[object] = ()) -> Iterator[Row]:
        """The rows of a statement, however many, while others are executed too.

        Some are fetched at a time, through a cursor of the server's. It is closed at the end, as each takes the server
        some 75 kB, and a page of cancels reads as many streams; one that isn't read to its end goes with the
        transaction.
        """
        return self._stream(statement, params, _ROWS_A_FETCH)

    def execute(self, statement: str, params: Sequence[object] = ()) -> None:
        """Do what a statement says."""
        self._executed(statement, params)

    def select_names(self, numbers: Sequence[int]) -> Iterable[Any]:
        """Number and name of those of the customers of `numbers` that are kept."""
        statement = f"SELECT customer, name FROM {self.customers_table} WHERE customer = ANY(?::bigint[])"
        return self.select(statement, (list(numbers),))

    def select_runs_of_all(self, meter: int, bucket_seconds: int, first: int, start: int, end: int) -> Iterable[Row]:
        """The runs of all customers with usages in [start, end), by start of their bucket."""
        return self._stream(  # buckets lead to them: there is one wherever there are usages
            f"SELECT {columns_of('run', self.RUN)} FROM {self.totals_table} AS bucket"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.usage_table} AS kept WHERE kept.meter = bucket.meter"
            " AND kept.customer = bucket.customer AND kept.start = bucket.start"
            " AND kept.dimensions_key = bucket.dimensions_key AND latest >= ? AND earliest < ? OFFSET 0) AS run"
            " WHERE bucket.meter = ? AND bucket.bucket_seconds = ? AND bucket.start >= ? AND bucket.start < ?"
            " ORDER BY bucket.start",
            (start, end, meter, bucket_seconds, first, end),
            _SLIM_ROWS_A_FETCH,
        )

    def select_usages(self, meter: int, runs: Sequence[Run]) -> Iterator[Row]:
        """The usages of each of `runs`, in this order."""
        for first in range(0, len(runs), _RUNS_A_FETCH):
            keys = [(*run.key, run.first_position) for run in runs[first : first + _RUNS_A_FETCH]]
            customers, starts, dimensions, positions = map(list, zip(*keys, strict=True))
            yield from self.select(
                "SELECT run.usages FROM unnest(?::bigint[], ?::bigint[], ?::text[], ?::bigint[]) WITH ORDINALITY"
                " AS wanted (customer, start, dimensions_key, first_position, place)"
                f" CROSS JOIN LATERAL (SELECT usages FROM {self.usage_table} AS kept WHERE meter = ?"
                " AND kept.customer = wanted.customer AND kept.start = wanted.start"
                " AND kept.dimensions_key = wanted.dimensions_key AND kept.first_position = wanted.first_position"
                " LIMIT 1) AS run ORDER BY place",  # with the limit it is looked up row by row, whatever is planned
                (customers, starts, list(map(dimensions_key, dimensions)), positions, meter),
            )

    def select_short(self, meter: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Of each of the buckets of `keys` the last run, followed by its usages, if these take few bytes."""
        customers, starts, dimensions = map(list, zip(*keys, strict=True))
        return self.select(
            f"SELECT {columns_of('run', self.RUN)}, run.usages"
            " FROM unnest(?::bigint[], ?::bigint[], ?::text[]) AS wanted (customer, start, dimensions_key)"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.usage_table} AS kept WHERE meter = ?"
            " AND kept.customer = wanted.customer AND kept.start = wanted.start"
            " AND kept.dimensions_key = wanted.dimensions_key ORDER BY first_position DESC LIMIT 1) AS run"
            f" WHERE octet_length(run.usages) < {SHORT_BYTES}",
            (customers, starts, list(map(dimensions_key, dimensions)), meter),
        )

    def select_buckets(
        self, meter: int, bucket_seconds: int, customer: int | None, start: int, end: int
    ) -> Iterable[Row]:
        """Customer, start, dimension values and totals of the buckets that begin in [start, end)."""
        statement = (
            f"SELECT customer, start, dimensions, {self.TOTALS} FROM {self.totals_table}"
            " WHERE meter = ? AND bucket_seconds = ? AND start >= ? AND start < ?"
        )
        if customer is None:
            return self._stream(f"{statement} ORDER BY start", (meter, bucket_seconds, start, end), _SLIM_ROWS_A_FETCH)
        return self.select(
            f"{statement} AND customer = ? ORDER BY start", (meter, bucket_seconds, start, end, customer)
        )

    def select_kept(self, meter: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Customer, start, dimension values and totals of those of the buckets of `keys` that are kept."""
        customers, starts, dimensions = map(list, zip(*keys, strict=True)) if keys else ([], [], [])
        return self.select(
            f"SELECT {columns_of('bucket', f'customer, start, dimensions, {self.TOTALS}')}"
            " FROM unnest(?::bigint[], ?::bigint[], ?::text[]) AS wanted (customer, start, dimensions_key)"
            f" CROSS JOIN LATERAL (SELECT * FROM {self.totals_table} AS kept WHERE meter = ? AND bucket_seconds = ?"
            " AND kept.customer = wanted.customer AND kept.start = wanted.start"
            " AND kept.dimensions_key = wanted.dimensions_key LIMIT 1) AS bucket",
            (customers, starts, list(map(dimensions_key, dimensions)), meter, bucket_seconds),
        )

    def write_meter(self, row: Row) -> None:
        """Keep number, event name, rules and history of a meter, in place of what was kept of it."""
        self.execute(
            f"INSERT INTO {self.meters_table} VALUES (?, ?, ?, ?) ON CONFLICT (meter) DO UPDATE"
            " SET event_name = excluded.event_name, rules = excluded.rules, history = excluded.history",
            row,
        )

    def write_customers(self, rows: Sequence[Row]) -> None:
        """Keep numbers and names of new customers."""
        self._write(f"INSERT INTO {self.customers_table} SELECT * FROM unnest(?::bigint[], ?::text[])", rows)

    def write_usages(self, rows: Sequence[Row]) -> None:
        """Keep new rows of meter, run and usages."""
        if not rows:
            return
        statement = f"COPY {self.usage_table} FROM STDIN (FORMAT BINARY)"
        with (
            translated(self._views.store.place),
            self._connection.cursor() as cursor,
            cursor.copy(statement.encode()) as copy,
        ):
            copy.set_types(_USAGE_TYPES)
            for row in rows:
                copy.write_row((*row, dimensions_key(row[3])))

    def rewrite_usages(self, rows: Sequence[Row]) -> None:
        """Keep such rows in place of those of the same bucket and first position."""
        self._write(
            f"INSERT INTO {self.usage_table} SELECT * FROM unnest({', '.join(f'?::{name}[]' for name in _USAGE_TYPES)})"
            " ON CONFLICT (meter, customer, start, dimensions_key, first_position)"
            f" DO UPDATE SET (earliest, latest, {self.TOTALS}, usages) ="
            f" ({columns_of('excluded', f'earliest, latest, {self.TOTALS}, usages')})",
            [(*row, dimensions_key(row[3])) for row in rows],
        )

    def write_totals(self, rows: Sequence[Row]) -> None:
        """Keep rows of meter, bucket size, start, customer, dimension values and totals, in place of earlier ones."""
        self._write(
            f"INSERT INTO {self.totals_table} SELECT * FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[],"
            " ?::text[], ?::text[], ?::bigint[], ?::text[], ?::bigint[], ?::bigint[], ?::text[])"
            " ON CONFLICT (meter, bucket_seconds, start, customer, dimensions_key) DO UPDATE SET sum = excluded.sum,"
            " count = excluded.count, last = excluded.last, last_at = excluded.last_at,"
            " last_position = excluded.last_position",
            [(*row, dimensions_key(row[4])) for row in rows],
        )

    def _write(self, statement: str, rows: Sequence[Row]) -> None:
        """Execute a statement that takes an array for each column."""
        if rows:
            self._executed(statement, list(map(list, zip(*rows, strict=True))))

    def _stream(self, statement: str, params: Sequence[object], at_a_time: int) -> Iterator[Row]:
        name = f"rows_{id(self)}_{next(self._cursors)}"
        self._executed(f"DECLARE {name} NO SCROLL CURSOR FOR {statement}", params)
        while len(rows := self._executed(f"FETCH {at_a_time} FROM {name}").fetchall()) == at_a_time:
            yield from rows
        self._executed(f"CLOSE {name}")
        yield from rows

    def _executed(self, statement: str, params: Sequence[object] = ()) -> Cursor[Row]:
        with translated(self._views.store.place):
            cursor = self._connection.cursor(row_factory=tuple_row, binary=True)
            return cursor.execute(statement.replace("?", "%b").encode(), params or None)
