"""The rows of one generation of read models, in SQL that every store speaks; each adds what it says in its own way."""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from operator import attrgetter
from typing import Any, Literal, Self, get_args

import msgspec

from ...domain.counting import Usage
from ...domain.rules import Rules
from ...projections.buckets import bucket_start
from ...projections.packing import join, pack
from ...projections.rows import AsOf, Bucket, Mark, ProjectedMeter, Record
from ...projections.runs import SHORT, BucketKey, NewRun, Run
from ...projections.totals import Totals
from . import row_codec
from .store import UnreadableRow

Table = Literal["meters", "customers", "usage", "totals"]
Row = tuple[Any, ...]

SHORT_BYTES = 2_000
"""Kept usages that take fewer are a short run, which a new one of fewer than SHORT usages joins."""


def tables(generation: int) -> tuple[str, ...]:
    """The names of a generation's tables."""
    return tuple(f"{table}_{generation}" for table in get_args(Table))


def columns_of(table: str, columns: str) -> str:
    """Columns, by their table too."""
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


class StoredRows(ABC):
    """The rows of one generation inside one transaction. A mark in a statement is a question mark."""

    TOTALS = "sum, count, last, last_at, last_position"
    RUN = f"customer, start, dimensions, first_position, earliest, latest, {TOTALS}"

    def __init__(self, generation: int, schema: str = "") -> None:
        """The rows of a generation whose tables lie in `schema`: a name with its full stop, or nothing."""
        self.generation = generation
        self.schema = schema
        self.meters_table, self.customers_table, self.usage_table, self.totals_table = (
            schema + table for table in tables(generation)
        )

    # --- what each store does in its own way --------------------------------------------------------

    @abstractmethod
    def beside(self, generation: int) -> Self:
        """The rows of another generation, in the same consistent state. Raises NoGeneration."""

    @abstractmethod
    def position(self) -> int:
        """The position up to which the ledger is folded in."""

    @abstractmethod
    def select(self, statement: str, params: Sequence[object] = ()) -> Iterable[Row]:
        """The rows of a statement that gives few: no more than of one customer."""

    @abstractmethod
    def stream(self, statement: str, params: Sequence[object] = ()) -> Iterable[Row]:
        """The rows of a statement, however many, while others are executed too."""

    @abstractmethod
    def select_one(self, statement: str, params: Sequence[object] = ()) -> Row | None:
        """The first row of a statement, if there is any."""

    @abstractmethod
    def select_names(self, numbers: Sequence[int]) -> Iterable[tuple[int, str]]:
        """Number and name of those of the customers of `numbers` that are kept."""

    @abstractmethod
    def select_runs_of_all(self, meter: int, bucket_seconds: int, first: int, start: int, end: int) -> Iterable[Row]:
        """The runs of all customers with usages in [start, end), the first of whose buckets begins at `first`.

        By start of their bucket.
        """

    @abstractmethod
    def select_usages(self, meter: int, runs: Sequence[Run]) -> Iterable[tuple[bytes]]:
        """The usages of each of `runs`, in this order."""

    @abstractmethod
    def select_short(self, meter: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Of each of the buckets of `keys` the last run, followed by its usages, if these take few bytes."""

    @abstractmethod
    def select_buckets(
        self, meter: int, bucket_seconds: int, customer: int | None, start: int, end: int
    ) -> Iterable[Row]:
        """Customer, start, dimension values and totals of the buckets that begin in [start, end)."""

    @abstractmethod
    def select_kept(self, meter: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterable[Row]:
        """Customer, start, dimension values and totals of those of the buckets of `keys` that are kept."""

    @abstractmethod
    def write_meter(self, row: Row) -> None:
        """Keep number, event name, rules and history of a meter, in place of what was kept of it."""

    @abstractmethod
    def write_customers(self, rows: Sequence[Row]) -> None:
        """Keep numbers and names of new customers."""

    @abstractmethod
    def write_usages(self, rows: Sequence[Row]) -> None:
        """Keep new rows of meter, run and usages."""

    @abstractmethod
    def rewrite_usages(self, rows: Sequence[Row]) -> None:
        """Keep such rows in place of those of the same bucket and first position."""

    @abstractmethod
    def write_totals(self, rows: Sequence[Row]) -> None:
        """Keep rows of meter, bucket size, start, customer, dimension values and totals, in place of earlier ones."""

    @abstractmethod
    def track(self, position: int) -> None:
        """Advance the position; refused by the library unless it grows."""

    @abstractmethod
    def execute(self, statement: str, params: Sequence[object] = ()) -> None:
        """Do what a statement says."""

    # --- reading ----------------------------------------------------------------------------------

    def pinned(self) -> Mapping[str, Rules]:
        """The rules that meters are folded under, by event name; those they are configured with where not named."""
        return row_codec.decode_pinned(self._of_itself("pinned"))

    def ledger_mark(self) -> str | None:
        """The mark of the event at that position."""
        return self._of_itself("ledger_mark")

    def meters(self) -> Mapping[str, ProjectedMeter]:
        """The meters, by event name."""
        rows = self.select(f"SELECT meter, event_name, rules, history FROM {self.meters_table} ORDER BY meter")
        return {
            name: ProjectedMeter(number, name, row_codec.decode_rules(rules), row_codec.decode_history(history))
            for number, name, rules, history in rows
        }

    def customer_number(self, customer: str) -> int | None:
        """The number of a customer in these rows, if it has any."""
        row = self.select_one(f"SELECT customer FROM {self.customers_table} WHERE name = ?", (customer,))
        return None if row is None else row[0]

    def last_customer_number(self) -> int:
        """The highest number of a customer; 0 where there is none."""
        return self._cell(f"SELECT coalesce(max(customer), 0) FROM {self.customers_table}")

    def customer_names(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The customers behind numbers."""
        wanted = list(numbers)
        names = dict(self.select_names(wanted))
        missing = [number for number in wanted if number not in names]
        with row_codec.readable("customers"):
            if missing:
                raise ValueError(f"there is none of the numbers {missing}")
        return names

    def usages(
        self, meter: int, customer: int | None, bucket_seconds: int, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[Usage]:
        """Usages in [start, end), by (occurred_at, position), as they were known; of all customers where None.

        Runs come by time, and are read together where they overlap: no index by time is needed.
        """
        found = self.runs(meter, customer, bucket_seconds, start, end)
        # One customer's are read together; of all customers, those of one bucket at a time.
        together = [found] if customer is not None else (of for _, of in groupby(found, lambda run: run.key[1]))
        for group in together:
            runs = sorted(group, key=_EARLIEST)
            read = self.usages_of(meter, runs)
            for number in _overlapping(runs):
                opened = chain.from_iterable(islice(read, number))
                usages = [usage for usage in opened if start <= usage.occurred_at < end]
                if as_of is not None:
                    usages = [known for usage in usages if (known := as_of.knew(usage)) is not None]
                usages.sort(key=_BY_TIME)
                yield from usages

    def runs(self, meter: int, customer: int | None, bucket_seconds: int, start: int, end: int) -> Iterator[Run]:
        """The runs with usages in [start, end), by the start of their bucket; of all customers where None."""
        first = bucket_start(start, bucket_seconds)
        if customer is None:
            rows = self.select_runs_of_all(meter, bucket_seconds, first, start, end)
        else:
            rows = self.select(
                f"SELECT {self.RUN} FROM {self.usage_table} WHERE meter = ? AND customer = ?"
                " AND start >= ? AND start < ? AND latest >= ? AND earliest < ? ORDER BY start",
                (meter, customer, first, end, start, end),
            )
        return map(row_codec.decode_run, rows)

    def usages_of(self, meter: int, runs: Sequence[Run]) -> Iterator[list[Usage]]:
        """The usages of each of `runs`, in the ledger's order."""
        stored = self.select_usages(meter, runs)
        return (row_codec.decode_usages(run.key, usages) for run, (usages,) in zip(runs, stored, strict=True))

    def buckets(self, meter: int, bucket_seconds: int, customer: int | None, start: int, end: int) -> Iterator[Bucket]:
        """The buckets that begin in [start, end), by start."""
        rows = self.select_buckets(meter, bucket_seconds, customer, start, end)
        for number, begins, dimensions, *of in rows:
            yield Bucket(number, begins, dimensions, row_codec.decode_totals(of))

    def extent(self, meter: int, customer: int | None, bucket_seconds: int) -> tuple[int, int] | None:
        """The starts of the first and last bucket of `bucket_seconds` with usage, of all customers where None."""
        if customer is None:
            table, where, params = self.totals_table, "bucket_seconds = ?", (meter, bucket_seconds)
        else:
            table, where, params = self.usage_table, "customer = ?", (meter, customer)
        first, last = (
            self._cell(f"SELECT {end}(start) FROM {table} WHERE meter = ? AND {where}", params)
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
        columns, key, width = _RECORDS[table]
        rows = self.stream(f"SELECT {columns} FROM {self.schema}{table}_{self.generation} ORDER BY {key}")
        return (Record(tuple(row[:width]), tuple(row[width:])) for row in rows)

    def _usage_records(self) -> Iterator[Record]:
        order = "meter, customer, start, dimensions, first_position"
        columns = f"meter, {self.RUN}, usages"
        for meter, *run, stored in self.stream(f"SELECT {columns} FROM {self.usage_table} ORDER BY {order}"):
            customer, start, dimensions, first, *_ = run
            try:
                key = (customer, start, dimensions)
                usages = row_codec.decode_usages(key, stored)
                is_sound = bool(usages) and row_codec.decode_run(run) == Run.with_cancels(key, usages)
            except UnreadableRow:
                usages, is_sound = [], False
            if not is_sound:
                yield Record((meter, customer, start, dimensions, first), None)
            for usage in usages:
                yield Record((meter, customer, start, dimensions, usage.position), msgspec.structs.astuple(usage))

    # --- writing ----------------------------------------------------------------------------------

    def put_meter(self, meter: ProjectedMeter) -> None:
        """Keep a meter, in place of what was kept of it."""
        history = row_codec.encode_history(meter.history)
        self.write_meter((meter.number, meter.event_name, meter.rules.model_dump_json(), history))

    def add_customers(self, numbers: Mapping[str, int]) -> None:
        """Keep the numbers of new customers."""
        self.write_customers([(number, name) for name, number in numbers.items()])

    def add_runs(self, meter: int, runs: Sequence[NewRun], begun: Collection[BucketKey]) -> None:
        """Keep new runs; what a bucket gains joins its last row, where both are short."""
        gained: dict[BucketKey, int] = {}
        for run, number, _ in runs:
            gained[run.key] = gained.get(run.key, 0) + number
        before = self._short_runs(meter, [key for key, number in gained.items() if number < SHORT and key in begun])
        new: list[Row] = []
        longer: list[Row] = []
        for run, _, packed in runs:
            joined = before.pop(run.key, None)
            if joined is None:
                new.append((meter, *row_codec.encode_run(run), packed))
            else:
                with row_codec.readable("usages"):
                    longer.append((meter, *row_codec.encode_run(joined[0].followed_by(run)), join(joined[1], packed)))
        self.write_usages(new)
        self.rewrite_usages(longer)

    def _short_runs(self, meter: int, keys: Sequence[BucketKey]) -> dict[BucketKey, tuple[Run, bytes]]:
        """Of each of the buckets of `keys` the last run and its usages, if it is short."""
        found: dict[BucketKey, tuple[Run, bytes]] = {}
        for *row, stored in self.select_short(meter, keys) if keys else ():
            run = row_codec.decode_run(row)
            found[run.key] = run, stored
        return found

    def mark_cancelled(self, meter: int, marks: Iterable[Mark]) -> Sequence[Mark]:
        """Mark cancels on their usages; give those for which there is no usage to mark."""
        rows: defaultdict[BucketKey, dict[int, list[Usage]]] = defaultdict(dict)
        missing: list[Mark] = []
        for mark in marks:
            usages = self._row_around(meter, mark, rows[mark.key])
            place = bisect_left(usages, mark.position, key=_POSITION)
            usage = usages[place] if place < len(usages) else None
            if usage is None or usage.position != mark.position or usage.cancelled_at is not None:
                missing.append(mark)
                continue
            usages[place] = msgspec.structs.replace(
                usage, cancelled_at=mark.cancelled_at, cancelled_position=mark.cancelled_position
            )
        self.rewrite_usages(
            [
                (meter, *row_codec.encode_run(Run.with_cancels(key, usages)), pack(usages))
                for key, bucket in rows.items()
                for usages in bucket.values()
            ]
        )
        return missing

    def _row_around(self, meter: int, mark: Mark, bucket: dict[int, list[Usage]]) -> list[Usage]:
        """The usages of the row that must hold the one to mark, read once into `bucket`; none without such a row."""
        usages = "NULL" if bucket else "usages"  # of a bucket that some is known of, it is likely known
        found = self.select_one(
            f"SELECT first_position, {usages} FROM {self.usage_table} WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position <= ? ORDER BY first_position DESC LIMIT 1",
            (meter, *mark.key, mark.position),
        )
        if found is None:
            return []
        first, stored = found
        if first not in bucket:
            bucket[first] = row_codec.decode_usages(mark.key, stored or self._usages(meter, mark.key, first))
        return bucket[first]

    def _usages(self, meter: int, key: BucketKey, first: int) -> bytes:
        return self._cell(
            f"SELECT usages FROM {self.usage_table} WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position = ?",
            (meter, *key, first),
        )

    def put_buckets(self, meter: int, bucket_seconds: int, buckets: Iterable[Bucket]) -> None:
        """Keep buckets in place of those of the same customer, dimension values and start, also empty ones."""
        self.write_totals(
            [
                (meter, bucket_seconds, start, customer, dimensions, *row_codec.encode_totals(totals))
                for customer, start, dimensions, totals in buckets
            ]
        )

    def kept_buckets(self, meter: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> dict[BucketKey, Totals]:
        """Those of the buckets of `keys` that are kept."""
        return {
            (customer, start, dimensions): row_codec.decode_totals(of)
            for customer, start, dimensions, *of in self.select_kept(meter, bucket_seconds, keys)
        }

    def advance(self, position: int, mark: str) -> None:
        """Remember that the ledger is folded in up to `position`, in the same transaction as its rows."""
        self.track(position)
        self.execute(
            f"UPDATE {self.schema}generations SET ledger_mark = ? WHERE generation = ?", (mark, self.generation)
        )

    def _of_itself(self, column: str) -> Any:
        return self._cell(f"SELECT {column} FROM {self.schema}generations WHERE generation = ?", (self.generation,))

    def _cell(self, statement: str, params: Sequence[object] = ()) -> Any:
        row = self.select_one(statement, params)
        assert row is not None
        return row[0]


_RECORDS = {
    "meters": ("meter, event_name, rules, history", "meter", 1),
    "customers": ("customer, name", "customer", 1),
    "totals": (
        f"meter, bucket_seconds, start, customer, dimensions, {StoredRows.TOTALS}",
        "meter, bucket_seconds, start, customer, dimensions",
        5,
    ),
}
_BY_TIME = attrgetter("occurred_at", "position")
_EARLIEST = attrgetter("earliest")
_POSITION = attrgetter("position")


def _overlapping(runs: Sequence[Run]) -> Iterator[int]:
    """How many of `runs`, by when they begin, overlap each other, one such group after another."""
    together, latest = 0, 0
    for run in runs:
        if together and run.earliest > latest:
            yield together
            together = 0
        latest = max(run.latest, latest) if together else run.latest
        together += 1
    if together:
        yield together
