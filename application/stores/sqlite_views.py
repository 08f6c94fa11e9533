"""The read models on SQLite, in a file of their own beside the ledger. Deleting it loses nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from sqlite3 import Cursor
from typing import Any

from eventsourcing.persistence import Tracking
from eventsourcing.sqlite import SQLiteCursor, SQLiteTrackingRecorder

from ...domain.counting import Usage
from ...domain.instants import MICROSECONDS_PER_SECOND
from ...domain.rules import Rules
from ...projections.rows import AsOf, Bucket, BucketKey, Mark, ProjectedMeter
from ...projections.totals import Totals
from .sqlite import Datastore, prepare

APPLICATION_ID = 0x54414C56  # "TALV"
SCHEMA_VERSION = 1
FIRST_GENERATION = 1
_KEYS_A_STATEMENT = 1_000

_GENERATIONS = """CREATE TABLE generations (
    generation INTEGER PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired')),
    ledger_mark TEXT
)"""
_TRACKING = """CREATE TABLE tracking (
    application_name TEXT PRIMARY KEY,
    notification_id INTEGER NOT NULL
) WITHOUT ROWID"""


def _tables(generation: int) -> tuple[str, ...]:
    """One generation's tables. Times are microseconds since 1970 UTC; figures are exact decimal text."""
    g = generation
    return (
        f"CREATE TABLE meters_{g} (meter INTEGER PRIMARY KEY, event_name TEXT NOT NULL UNIQUE, rules TEXT NOT NULL)",
        f"CREATE TABLE customers_{g} (customer INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        f"""CREATE TABLE usage_{g} (
            meter INTEGER NOT NULL,
            customer INTEGER NOT NULL,
            occurred_at INTEGER NOT NULL,
            position INTEGER NOT NULL,
            dimensions TEXT NOT NULL,
            value TEXT,
            recorded_at INTEGER NOT NULL,
            cancelled_at INTEGER,
            cancelled_position INTEGER,
            PRIMARY KEY (meter, customer, occurred_at, position)
        ) WITHOUT ROWID""",
        f"""CREATE TABLE totals_{g} (
            meter INTEGER NOT NULL,
            bucket_seconds INTEGER NOT NULL,
            start INTEGER NOT NULL,
            customer INTEGER NOT NULL,
            dimensions TEXT NOT NULL,
            sum TEXT NOT NULL,
            count INTEGER NOT NULL,
            last TEXT,
            last_at INTEGER,
            last_position INTEGER,
            PRIMARY KEY (meter, bucket_seconds, start, customer, dimensions)
        ) WITHOUT ROWID""",
        f"INSERT INTO generations VALUES ({g}, 'live', NULL)",
    )


_USAGE = "customer, occurred_at, position, dimensions, value, recorded_at, cancelled_at, cancelled_position"
_TOTALS = "sum, count, last, last_at, last_position"


class SQLiteViews(SQLiteTrackingRecorder):
    """The read models of one ledger, their position tracked in the same transaction as their rows."""

    def __init__(self, datastore: Datastore) -> None:
        super().__init__(datastore)
        self.generation = FIRST_GENERATION
        prepare(datastore, APPLICATION_ID, SCHEMA_VERSION, (_GENERATIONS, _TRACKING, *_tables(self.generation)))

    @contextmanager
    def reading(self) -> "Iterator[SQLiteRows]":
        """Rows to read, in one consistent state."""
        with self.datastore.transaction(commit=False) as cursor:
            yield SQLiteRows(self, cursor)

    @contextmanager
    def writing(self) -> "Iterator[SQLiteRows]":
        """Rows to read and write, alone; all that is written takes effect together at the end."""
        with self.datastore.transaction(commit=True) as cursor:
            yield SQLiteRows(self, cursor)

    def tracked_position(self, cursor: SQLiteCursor) -> int:
        """The position up to which the ledger is folded in."""
        return self._max_tracking_id(self.tracking_name, cursor) or 0

    def track(self, cursor: SQLiteCursor, position: int) -> None:
        """Advance the position; refused by the library unless it grows."""
        self._insert_tracking(cursor, Tracking(self.tracking_name, position))

    @property
    def tracking_name(self) -> str:
        """Under which name the position is tracked."""
        return f"generation {self.generation}"

    def close(self) -> None:
        """Let the file go."""
        self.datastore.close()


class SQLiteRows:
    """The rows of one generation inside one transaction."""

    def __init__(self, views: SQLiteViews, tracking_cursor: SQLiteCursor) -> None:
        self._views = views
        self._tracking_cursor = tracking_cursor
        self._connection = tracking_cursor.sqlite_cursor.connection
        g = views.generation
        self._meters, self._customers, self._usage, self._totals = (
            f"meters_{g}", f"customers_{g}", f"usage_{g}", f"totals_{g}",
        )  # fmt: skip

    # --- reading ----------------------------------------------------------------------------------

    def position(self) -> int:
        """The position up to which the ledger is folded in."""
        return self._views.tracked_position(self._tracking_cursor)

    def ledger_mark(self) -> str | None:
        """The mark of the event at that position."""
        row = self._execute("SELECT ledger_mark FROM generations WHERE generation = ?", (self._views.generation,))
        return row.fetchone()[0]

    def meters(self) -> Mapping[str, ProjectedMeter]:
        """The meters, by event name."""
        rows = self._execute(f"SELECT meter, event_name, rules FROM {self._meters} ORDER BY meter")
        return {name: ProjectedMeter(number, name, _rules(rules)) for number, name, rules in rows}

    def customer_number(self, customer: str) -> int | None:
        """The number of a customer in these rows, if it has any."""
        row = self._execute(f"SELECT customer FROM {self._customers} WHERE name = ?", (customer,)).fetchone()
        return None if row is None else row[0]

    def customer_names(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The customers behind numbers."""
        statement = f"SELECT name FROM {self._customers} WHERE customer = ?"
        return {number: self._execute(statement, (number,)).fetchone()[0] for number in numbers}

    def usages(
        self, meter: int, customer: int, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[Usage]:
        """One customer's usage rows in [start, end), by (occurred_at, position), as they were known."""
        known, params = _known(as_of)
        rows = self._execute(
            f"SELECT {_USAGE} FROM {self._usage} WHERE meter = ? AND customer = ?"
            f" AND occurred_at >= ? AND occurred_at < ? {known} ORDER BY occurred_at, position",
            (meter, customer, start, end, *params),
        )
        return (_usage(row, as_of) for row in rows)

    def all_usages(
        self, meter: int, bucket_seconds: int, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[Usage]:
        """All customers' usage rows in [start, end), by (occurred_at, position), as they were known.

        Buckets of `bucket_seconds` lead to them: there is one for every customer and stretch that has any.
        """
        step = bucket_seconds * MICROSECONDS_PER_SECOND
        known, params = _known(as_of)
        rows = self._execute(
            f"SELECT start, {_USAGE} FROM (SELECT DISTINCT start, customer FROM {self._totals}"
            "   WHERE meter = ? AND bucket_seconds = ? AND start > ? AND start < ? ORDER BY start, customer)"
            f" CROSS JOIN {self._usage} USING (customer)"
            f" WHERE meter = ? AND occurred_at >= max(start, ?) AND occurred_at < min(start + ?, ?) {known}",
            (meter, bucket_seconds, start - step, end, meter, start, step, end, *params),
        )
        for _, together in groupby(rows, itemgetter(0)):
            yield from sorted((_usage(row[1:], as_of) for row in together), key=_BY_TIME)

    def buckets(self, meter: int, bucket_seconds: int, customer: int | None, start: int, end: int) -> Iterator[Bucket]:
        """The buckets that begin in [start, end), by start."""
        if customer is None:
            source, where, params = self._totals, "", ()
        else:  # one seek a bucket, not one row a customer
            step = bucket_seconds * MICROSECONDS_PER_SECOND
            source = (
                "(WITH RECURSIVE begins (start) AS (SELECT ? WHERE ? < ? UNION ALL"
                " SELECT start + ? FROM begins WHERE start + ? < ?) SELECT * FROM begins)"
                f" CROSS JOIN {self._totals} USING (start)"
            )
            where, params = "AND customer = ?", (start, start, end, step, step, end)
        rows = self._execute(
            f"SELECT customer, start, dimensions, {_TOTALS} FROM {source}"
            f" WHERE meter = ? AND bucket_seconds = ? AND start >= ? AND start < ? {where}",
            (*params, meter, bucket_seconds, start, end, *(() if customer is None else (customer,))),
        )
        for number, begins, dimensions, *of in rows:
            yield Bucket(number, begins, dimensions, _totals(of))

    def extent(self, meter: int, customer: int) -> tuple[int, int] | None:
        """The first and last `occurred_at` among one customer's usage rows."""
        return self._ends(f"occurred_at) FROM {self._usage} WHERE meter = ? AND customer = ?", (meter, customer))

    def full_extent(self, meter: int, bucket_seconds: int) -> tuple[int, int] | None:
        """The starts of the first and last bucket of any customer."""
        return self._ends(f"start) FROM {self._totals} WHERE meter = ? AND bucket_seconds = ?", (meter, bucket_seconds))

    def _ends(self, of: str, params: tuple[int, int]) -> tuple[int, int] | None:
        first, last = (self._execute(f"SELECT {end}({of}", params).fetchone()[0] for end in ("min", "max"))
        return None if first is None else (first, last)

    # --- writing ----------------------------------------------------------------------------------

    def add_meter(self, meter: ProjectedMeter) -> None:
        """Keep a new meter."""
        row = (meter.number, meter.event_name, meter.rules.model_dump_json())
        self._execute(f"INSERT INTO {self._meters} VALUES (?, ?, ?)", row)

    def customer_numbers(self) -> Mapping[str, int]:
        """The number of each customer that is asked for, a new one where it has none yet."""
        return _CustomerNumbers(self)

    def number_customer(self, customer: str) -> int:
        """The number of one customer, a new one where it has none yet."""
        number = self.customer_number(customer)
        if number is None:
            number = self._execute(f"INSERT INTO {self._customers} (name) VALUES (?)", (customer,)).lastrowid
        assert number is not None
        return number

    def add_usages(self, meter: int, usages: Iterable[Usage]) -> None:
        """Keep new usage rows."""
        self._connection.executemany(
            f"INSERT INTO {self._usage} (meter, customer, occurred_at, position, dimensions, value, recorded_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (meter, customer, occurred_at, position, dimensions, None if value is None else str(value), recorded_at)
                for customer, occurred_at, position, dimensions, value, recorded_at, _, _ in usages
            ],
        )

    def mark_cancelled(self, meter: int, mark: Mark) -> bool:
        """Mark a cancel on its usage row; give whether there was one to mark."""
        cursor = self._execute(
            f"UPDATE {self._usage} SET cancelled_at = ?, cancelled_position = ?"
            " WHERE meter = ? AND customer = ? AND occurred_at = ? AND position = ? AND cancelled_position IS NULL",
            (
                mark.cancelled_at,
                mark.cancelled_position,
                meter,
                mark.customer,
                mark.occurred_at,
                mark.position,
            ),
        )
        return cursor.rowcount == 1

    def put_buckets(self, meter: int, bucket_seconds: int, buckets: Iterable[Bucket]) -> None:
        """Keep buckets in place of those of the same customer, dimension values and start, also empty ones."""
        self._connection.executemany(
            f"INSERT OR REPLACE INTO {self._totals} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    meter, bucket_seconds, start, customer, dimensions, str(totals.sum), totals.count,
                    None if totals.last is None else str(totals.last), totals.last_at, totals.last_position,
                )
                for customer, start, dimensions, totals in buckets
            ],
        )  # fmt: skip

    def kept_buckets(self, meter: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> dict[BucketKey, Totals]:
        """Those of the buckets of `keys` that are kept."""
        kept: dict[BucketKey, Totals] = {}
        for first in range(0, len(keys), _KEYS_A_STATEMENT):
            chunk = keys[first : first + _KEYS_A_STATEMENT]
            rows = self._execute(
                f"WITH wanted (customer, start, dimensions) AS (VALUES {','.join(['(?,?,?)'] * len(chunk))})"
                f" SELECT customer, start, dimensions, {_TOTALS} FROM wanted CROSS JOIN {self._totals}"
                " USING (customer, start, dimensions) WHERE meter = ? AND bucket_seconds = ?",
                (*chain.from_iterable(chunk), meter, bucket_seconds),
            )
            kept.update(((customer, start, dimensions), _totals(of)) for customer, start, dimensions, *of in rows)
        return kept

    def advance(self, position: int, mark: str) -> None:
        """Remember that the ledger is folded in up to `position`, in the same transaction as its rows."""
        self._views.track(self._tracking_cursor, position)
        self._execute("UPDATE generations SET ledger_mark = ? WHERE generation = ?", (mark, self._views.generation))

    def forget(self) -> None:
        """Begin anew, without rows."""
        for table in (self._meters, self._customers, self._usage, self._totals):
            self._execute(f"DELETE FROM {table}")
        self._execute("DELETE FROM tracking WHERE application_name = ?", (self._views.tracking_name,))

    def _execute(self, statement: str, params: Iterable[object] = ()) -> Cursor:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(statement, tuple(params))  # pyright: ignore[reportArgumentType]


class _CustomerNumbers(dict[str, int]):
    """Numbers of customers, looked up once each."""

    def __init__(self, rows: SQLiteRows) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, customer: str) -> int:
        number = self[customer] = self._rows.number_customer(customer)
        return number


@lru_cache(maxsize=10_000)
def _rules(stored: str) -> Rules:
    return Rules.model_validate_json(stored)


_BY_TIME = attrgetter("occurred_at", "position")


def _known(as_of: AsOf | None) -> tuple[str, tuple[int, ...]]:
    """The condition on usage rows that were known then."""
    if as_of is None:
        return "", ()
    if as_of.position is not None:
        return "AND position <= ?", (as_of.position,)
    return "AND recorded_at <= ?", (as_of.recorded_at or 0,)


def _usage(row: tuple[Any, ...], as_of: AsOf | None) -> Usage:
    customer, occurred_at, position, dimensions, value, recorded_at, cancelled_at, cancelled_position = row
    if as_of is not None and cancelled_at is not None and not as_of.includes(cancelled_at, cancelled_position):
        cancelled_at = cancelled_position = None
    exact = None if value is None else Decimal(value)
    return Usage(customer, occurred_at, position, dimensions, exact, recorded_at, cancelled_at, cancelled_position)


def _totals(row: Iterable[object]) -> Totals:
    total, count, last, last_at, last_position = row
    return Totals(Decimal(str(total)), count, None if last is None else Decimal(str(last)), last_at, last_position)  # type: ignore[arg-type]
