"""The read models on SQLite, in a file of their own beside the ledger. Deleting it loses nothing."""

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from sqlite3 import Cursor

import msgspec
from eventsourcing.persistence import Tracking
from eventsourcing.sqlite import SQLiteCursor, SQLiteTrackingRecorder

from ...domain.counting import Usage
from ...domain.instants import MICROSECONDS_PER_SECOND
from ...domain.rules import Rules
from ...projections.buckets import bucket_start
from ...projections.rows import AsOf, Bucket, BucketKey, Mark, ProjectedMeter
from ...projections.totals import Totals
from .sqlite import Datastore
from .sqlite_schema import Schema

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
            start INTEGER NOT NULL,
            dimensions TEXT NOT NULL,
            first_position INTEGER NOT NULL,
            usages BLOB NOT NULL,
            PRIMARY KEY (meter, customer, start, dimensions, first_position)
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


_TOTALS = "sum, count, last, last_at, last_position"


VIEWS = Schema(
    application_id=0x54414C56,  # "TALV"
    version=1,
    statements=(_GENERATIONS, _TRACKING, *_tables(FIRST_GENERATION)),
)


def views_datastore(database: str) -> Datastore:
    """The database of read models: a power cut may take their last pages, which are folded again."""
    return Datastore(database, VIEWS, synchronous="NORMAL", disposable=True)


class SQLiteViews(SQLiteTrackingRecorder):
    """The read models of one ledger, their position tracked in the same transaction as their rows."""

    def __init__(self, datastore: Datastore) -> None:
        super().__init__(datastore)
        self.generation = FIRST_GENERATION
        with datastore.transaction(commit=False):
            pass  # the first connection makes the tables where there are none

    @contextmanager
    def reading(self) -> "Generator[SQLiteRows]":
        """Rows to read, in one consistent state."""
        with self.datastore.transaction(commit=False) as cursor:
            yield SQLiteRows(self, cursor)

    @contextmanager
    def writing(self) -> "Generator[SQLiteRows]":
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
        self, meter: int, customer: int | None, bucket_seconds: int, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[Usage]:
        """Usages in [start, end), by (occurred_at, position), as they were known; of all customers where None.

        Those of one bucket are read together, so that they come in order without an index by time.
        """
        for _, rows in groupby(self._usage_rows(meter, customer, bucket_seconds, start, end), itemgetter(0)):
            together = chain.from_iterable(_decode_usages(usages) for _, usages in rows)
            within = (usage for usage in together if start <= usage.occurred_at < end)
            known = within if as_of is None else filter(None, (as_of.knew(usage) for usage in within))
            yield from sorted(known, key=_BY_TIME)

    def _usage_rows(
        self, meter: int, customer: int | None, bucket_seconds: int, start: int, end: int
    ) -> Iterable[tuple[int, bytes]]:
        first = bucket_start(start, bucket_seconds)
        if customer is not None:
            return self._execute(
                f"SELECT start, usages FROM {self._usage} WHERE meter = ? AND customer = ?"
                " AND start >= ? AND start < ? ORDER BY start",
                (meter, customer, first, end),
            )
        return self._execute(  # buckets lead to them: there is one wherever there are usages
            f"SELECT kept.start, usages FROM {self._totals} AS bucket CROSS JOIN {self._usage} AS kept"
            " USING (meter, customer, start, dimensions)"
            " WHERE bucket.meter = ? AND bucket.bucket_seconds = ? AND bucket.start >= ? AND bucket.start < ?"
            " ORDER BY bucket.start",
            (meter, bucket_seconds, first, end),
        )

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

    def extent(self, meter: int, customer: int | None, bucket_seconds: int) -> tuple[int, int] | None:
        """The starts of the first and last bucket of `bucket_seconds` with usage, of all customers where None."""
        if customer is None:
            table, where, params = self._totals, "bucket_seconds = ?", (meter, bucket_seconds)
        else:
            table, where, params = self._usage, "customer = ?", (meter, customer)
        first, last = (
            self._execute(f"SELECT {end}(start) FROM {table} WHERE meter = ? AND {where}", params).fetchone()[0]
            for end in ("min", "max")
        )
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

    def add_usages(self, meter: int, usages: Mapping[BucketKey, Sequence[Usage]]) -> None:
        """Keep new usages, all later in the ledger than those that are kept, by the bucket that they lie in."""
        self._connection.executemany(
            f"INSERT INTO {self._usage} VALUES (?, ?, ?, ?, ?, ?)",
            [
                (meter, customer, start, dimensions, group[0].position, _encode_usages(group))
                for (customer, start, dimensions), group in usages.items()
            ],
        )

    def mark_cancelled(self, meter: int, marks: Iterable[Mark]) -> Sequence[Mark]:
        """Mark cancels on their usages; give those for which there is no usage to mark."""
        return [mark for mark in marks if not self._mark_one(meter, mark)]

    def _mark_one(self, meter: int, mark: Mark) -> bool:
        row = self._execute(
            f"SELECT first_position, usages FROM {self._usage} WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position <= ? ORDER BY first_position DESC LIMIT 1",
            (meter, *mark.key, mark.position),
        ).fetchone()
        if row is None:
            return False
        first_position, usages = row[0], _decode_usages(row[1])
        place = bisect_left(usages, mark.position, key=_POSITION)
        if place == len(usages) or usages[place].position != mark.position or usages[place].cancelled_at is not None:
            return False
        usages[place] = msgspec.structs.replace(
            usages[place], cancelled_at=mark.cancelled_at, cancelled_position=mark.cancelled_position
        )
        self._execute(
            f"UPDATE {self._usage} SET usages = ? WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position = ?",
            (_encode_usages(usages), meter, *mark.key, first_position),
        )
        return True

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
        self._execute("UPDATE generations SET ledger_mark = NULL WHERE generation = ?", (self._views.generation,))

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
_POSITION = attrgetter("position")
_encode_usages = msgspec.msgpack.Encoder().encode
_decode_usages = msgspec.msgpack.Decoder(list[Usage]).decode


def _totals(row: Iterable[object]) -> Totals:
    total, count, last, last_at, last_position = row
    return Totals(Decimal(str(total)), count, None if last is None else Decimal(str(last)), last_at, last_position)  # type: ignore[arg-type]
