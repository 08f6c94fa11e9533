"""The rows of one generation of read models on SQLite, inside one transaction."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from sqlite3 import Cursor
from typing import TYPE_CHECKING

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from ...domain.counting import Usage
from ...domain.errors import LedgerUnavailable
from ...domain.instants import MICROSECONDS_PER_SECOND
from ...domain.rules import Rules
from ...projections.buckets import bucket_start
from ...projections.rows import AsOf, Bucket, BucketKey, Mark, ProjectedMeter
from ...projections.totals import Totals

if TYPE_CHECKING:
    from .sqlite_views import SQLiteViews

_KEYS_A_STATEMENT = 1_000
_USAGES_A_ROW = 1_000
_TOTALS = "sum, count, last, last_at, last_position"


class SQLiteRows:
    """The rows of one generation inside one transaction."""

    def __init__(self, views: "SQLiteViews", tracking_cursor: SQLiteCursor) -> None:
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
                (meter, *key, group[first].position, _encode_usages(group[first : first + _USAGES_A_ROW]))
                for key, group in usages.items()
                for first in range(0, len(group), _USAGES_A_ROW)
            ],
        )

    def mark_cancelled(self, meter: int, marks: Iterable[Mark]) -> Sequence[Mark]:
        """Mark cancels on their usages; give those for which there is no usage to mark."""
        rows: dict[tuple[BucketKey, int], list[Usage]] = {}
        missing: list[Mark] = []
        for mark in marks:
            usages = self._row_around(meter, mark, rows)
            place = bisect_left(usages, mark.position, key=_POSITION)
            usage = usages[place] if place < len(usages) else None
            if usage is None or usage.position != mark.position or usage.cancelled_at is not None:
                missing.append(mark)
                continue
            usages[place] = msgspec.structs.replace(
                usage, cancelled_at=mark.cancelled_at, cancelled_position=mark.cancelled_position
            )
        self._connection.executemany(
            f"UPDATE {self._usage} SET usages = ? WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position = ?",
            [(_encode_usages(usages), meter, *key, first) for (key, first), usages in rows.items()],
        )
        return missing

    def _row_around(self, meter: int, mark: Mark, rows: dict[tuple[BucketKey, int], list[Usage]]) -> list[Usage]:
        """The usages of the row that must hold the one to mark, read once into `rows`; none without such a row."""
        found = self._execute(
            f"SELECT max(first_position) FROM {self._usage} WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position <= ?",
            (meter, *mark.key, mark.position),
        ).fetchone()[0]
        if found is None:
            return []
        if (mark.key, found) not in rows:
            (usages,) = self._execute(
                f"SELECT usages FROM {self._usage} WHERE meter = ? AND customer = ? AND start = ?"
                " AND dimensions = ? AND first_position = ?",
                (meter, *mark.key, found),
            ).fetchone()
            rows[mark.key, found] = _decode_usages(usages)
        return rows[mark.key, found]

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
_usages_decoder = msgspec.msgpack.Decoder(list[Usage])


def _totals(row: Iterable[object]) -> Totals:
    total, count, last, last_at, last_position = row
    return Totals(Decimal(str(total)), count, None if last is None else Decimal(str(last)), last_at, last_position)  # type: ignore[arg-type]


def _decode_usages(stored: bytes) -> list[Usage]:
    try:
        return _usages_decoder.decode(stored)
    except msgspec.MsgspecError as error:
        raise LedgerUnavailable(
            f"A row of the read models can't be read: {error}. Delete their file (.views); it is made again."
        ) from error
