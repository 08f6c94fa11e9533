"""The rows of one generation of read models on SQLite, inside one transaction."""

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from sqlite3 import Cursor
from typing import TYPE_CHECKING, Literal, get_args

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from ...domain.counting import Usage
from ...domain.errors import LedgerUnavailable
from ...domain.instants import MICROSECONDS_PER_SECOND
from ...domain.rules import Rules
from ...projections.buckets import bucket_start
from ...projections.rows import AsOf, Bucket, BucketKey, Mark, ProjectedMeter, Record, RulesInForce
from ...projections.totals import Totals

if TYPE_CHECKING:
    from .sqlite_views import SQLiteViews

Table = Literal["meters", "customers", "usage", "totals"]
_KEYS_A_STATEMENT = 1_000
_USAGES_A_ROW = 1_000
_TOTALS = "sum, count, last, last_at, last_position"


class SQLiteRows:
    """The rows of one generation inside one transaction."""

    def __init__(self, views: "SQLiteViews", tracking_cursor: SQLiteCursor, generation: int) -> None:
        self.generation = generation
        self._views = views
        self._tracking_cursor = tracking_cursor
        self._connection = tracking_cursor.sqlite_cursor.connection
        self._meters, self._customers, self._usage, self._totals = tables(generation)

    # --- reading ----------------------------------------------------------------------------------

    def beside(self, generation: int) -> "SQLiteRows":
        """The rows of another generation, in the same consistent state. Raises NoGeneration."""
        return self._views.rows(self._tracking_cursor, generation)

    def pinned(self) -> Mapping[str, Rules]:
        """The rules that meters are folded under, by event name; those they are configured with where not named."""
        row = self._execute("SELECT pinned FROM generations WHERE generation = ?", (self.generation,))
        return decode_pinned(row.fetchone()[0])

    def position(self) -> int:
        """The position up to which the ledger is folded in."""
        return self._views.tracked_position(self._tracking_cursor, self.generation)

    def ledger_mark(self) -> str | None:
        """The mark of the event at that position."""
        row = self._execute("SELECT ledger_mark FROM generations WHERE generation = ?", (self.generation,))
        return row.fetchone()[0]

    def meters(self) -> Mapping[str, ProjectedMeter]:
        """The meters, by event name."""
        rows = self._execute(f"SELECT meter, event_name, rules, history FROM {self._meters} ORDER BY meter")
        return {
            name: ProjectedMeter(number, name, _rules(rules), _history(history))
            for number, name, rules, history in rows
        }

    def customer_number(self, customer: str) -> int | None:
        """The number of a customer in these rows, if it has any."""
        row = self._execute(f"SELECT customer FROM {self._customers} WHERE name = ?", (customer,)).fetchone()
        return None if row is None else row[0]

    def last_customer_number(self) -> int:
        """The highest number of a customer; 0 where there is none."""
        return self._execute(f"SELECT coalesce(max(customer), 0) FROM {self._customers}").fetchone()[0]

    def customer_names(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The customers behind numbers."""
        statement = f"SELECT name FROM {self._customers} WHERE customer = ?"
        names = {number: self._execute(statement, (number,)).fetchone() for number in numbers}
        if None in names.values():
            with _readable("customers"):
                raise ValueError(f"there is none of the numbers {[one for one in names if names[one] is None]}")
        return {number: row[0] for number, row in names.items()}

    def usages(
        self, meter: int, customer: int | None, bucket_seconds: int, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[Usage]:
        """Usages in [start, end), by (occurred_at, position), as they were known; of all customers where None.

        Those of one bucket are read together, so that they come in order without an index by time.
        """
        for _, rows in groupby(self._usage_rows(meter, customer, bucket_seconds, start, end), itemgetter(0)):
            usages = [
                usage for _, stored in rows for usage in _decode_usages(stored) if start <= usage.occurred_at < end
            ]
            if as_of is not None:
                usages = [known for usage in usages if (known := as_of.knew(usage)) is not None]
            usages.sort(key=_BY_TIME)
            yield from usages

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

    def tables(self) -> Sequence[str]:
        """The names of all tables of rows, for `records`."""
        return get_args(Table)

    def records(self, table: str) -> Iterator[Record]:
        """All rows of a table, in the order of their keys; usages one by one, however they are kept."""
        if table == "usage":
            return self._usage_records()
        columns = "ORDER BY 1" if table != "totals" else "ORDER BY meter, bucket_seconds, start, customer, dimensions"
        width = _KEY_WIDTHS[table]
        rows = self._execute(f"SELECT * FROM {table}_{self.generation} {columns}")
        return (Record(tuple(row[:width]), tuple(row[width:])) for row in rows)

    def _usage_records(self) -> Iterator[Record]:
        rows = self._execute(f"SELECT * FROM {self._usage} ORDER BY meter, customer, start, dimensions, first_position")
        for *bucket, first, stored in rows:
            try:
                usages = _decode_usages(stored)
            except LedgerUnavailable:
                yield Record((*bucket, first), None)
                continue
            if not usages or usages[0].position != first:
                yield Record((*bucket, first), None)
            for usage in usages:
                yield Record((*bucket, usage.position), msgspec.structs.astuple(usage))

    # --- writing ----------------------------------------------------------------------------------

    def put_meter(self, meter: ProjectedMeter) -> None:
        """Keep a meter, in place of what was kept of it."""
        history = _encode_json(
            [(one.revision, one.rules.model_dump(mode="json"), *one[2:]) for one in meter.history]
        ).decode()
        row = (meter.number, meter.event_name, meter.rules.model_dump_json(), history)
        self._execute(f"INSERT OR REPLACE INTO {self._meters} VALUES (?, ?, ?, ?)", row)

    def add_customers(self, numbers: Mapping[str, int]) -> None:
        """Keep the numbers of new customers."""
        self._connection.executemany(
            f"INSERT INTO {self._customers} (name, customer) VALUES (?, ?)", list(numbers.items())
        )

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
        self._views.track(self._tracking_cursor, self.generation, position)
        self._execute("UPDATE generations SET ledger_mark = ? WHERE generation = ?", (mark, self.generation))

    def _execute(self, statement: str, params: Iterable[object] = ()) -> Cursor:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(statement, tuple(params))  # pyright: ignore[reportArgumentType]


def tables(generation: int) -> tuple[str, ...]:
    """The names of a generation's tables."""
    return tuple(f"{table}_{generation}" for table in get_args(Table))


@lru_cache(maxsize=10_000)
def _rules(stored: str) -> Rules:
    with _readable("rules"):
        return Rules.model_validate_json(stored)


@lru_cache(maxsize=10_000)
def _history(stored: str) -> tuple[RulesInForce, ...]:
    with _readable("rules"):
        history = tuple(
            RulesInForce(revision, Rules.model_validate(rules), position, recorded_at)
            for revision, rules, position, recorded_at in _history_decoder.decode(stored)
        )
        if not history:
            raise ValueError("no rules were ever in force")
        return history


@lru_cache(maxsize=1_000)
def decode_pinned(stored: str) -> Mapping[str, Rules]:
    """Pinned rules out of the column that keeps them."""
    with _readable("pinned rules"):
        return {name: Rules.model_validate(rules) for name, rules in msgspec.json.decode(stored).items()}


def encode_pinned(pinned: Mapping[str, Rules]) -> str:
    """Pinned rules for the column that keeps them."""
    return _encode_json({name: rules.model_dump(mode="json") for name, rules in pinned.items()}).decode()


def decode_revisions(stored: str) -> Mapping[str, int]:
    """Revisions of rules out of the column that keeps them."""
    with _readable("revisions"):
        return _revisions_decoder.decode(stored)


def encode_revisions(revisions: Mapping[str, int]) -> str:
    """Revisions of rules for the column that keeps them."""
    return _encode_json(revisions).decode()


_revisions_decoder = msgspec.json.Decoder(dict[str, int])
_KEY_WIDTHS = {"meters": 1, "customers": 1, "totals": 5}
_encode_json = msgspec.json.Encoder(order="deterministic").encode
_BY_TIME = attrgetter("occurred_at", "position")
_POSITION = attrgetter("position")
_PLACES = {int, type(None)}
_encode_usages = msgspec.msgpack.Encoder().encode
_history_decoder = msgspec.json.Decoder(list[tuple[int, dict[str, object], int, int]])
_usages_decoder = msgspec.msgpack.Decoder(list[Usage])


def _totals(row: Iterable[object]) -> Totals:
    total, count, last, last_at, last_position = row
    try:
        if type(count) is not int or not {type(last_at), type(last_position)} <= _PLACES:
            raise ValueError(f"count {count!r}, last at {last_at!r}, position {last_position!r}")
        return Totals(Decimal(str(total)), count, None if last is None else Decimal(str(last)), last_at, last_position)  # type: ignore[arg-type]
    except _UNREADABLE as error:
        raise _unreadable("totals", error) from error


def _decode_usages(stored: bytes) -> list[Usage]:
    try:  # said in full: every row of usages passes here
        return _usages_decoder.decode(stored)
    except _UNREADABLE as error:
        raise _unreadable("usages", error) from error


@contextmanager
def _readable(what: str) -> Generator[None]:
    """Raise LedgerUnavailable where a row can't be read."""
    try:
        yield
    except _UNREADABLE as error:
        raise _unreadable(what, error) from error


_UNREADABLE = (msgspec.MsgspecError, ArithmeticError, AttributeError, TypeError, ValueError)


def _unreadable(what: str, error: Exception) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"A row of {what} in the read models can't be read: {error}. Delete their file (.views); it is made again."
    )
