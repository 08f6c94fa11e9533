"""Queries of the read models of one generation, in SQL common to both stores."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, groupby, islice
from operator import attrgetter, itemgetter
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from ...domain.counting import UsageRecord
from ...domain.timestamps import MICROSECONDS_PER_SECOND
from ...domain.totals import Totals
from ...projections.blocks import SHORT_BLOCK_BYTES, BucketKey, UsageBlock
from ...projections.buckets import MONTH_SECONDS, bucket_end, bucket_start, smaller_size
from ...projections.models import AsOf, Bucket, LedgerEvent, PinnedRules, ProjectedMeter
from ...projections.ports import TableRow
from ..interruption import check_between
from . import row_codec
from .sql_statements import Row, SqlReadModelStatements
from .table_rows import TABLE_NAMES, table_rows
from .time_order import in_time_order, overlap_groups

_ASCII_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_LAST_CHARACTER = "\U0010ffff"


class SqlReadModelReader(SqlReadModelStatements):
    """The read models of one generation inside one transaction."""

    def batch(self) -> AbstractContextManager[None]:
        """Let the store read what several calls return at once. Iterate over what they return after the batch."""
        return nullcontext()

    def ledger_head(self) -> int | None:
        """Return the position of the ledger's newest event in the same consistent state; None if it isn't known."""
        return None

    def next_events(self) -> Sequence[LedgerEvent]:
        """Return the ledger's event at the position of the read models and some after it, if the store knows them."""
        return ()

    def pinned(self) -> PinnedRules:
        """Return the meters, by name, that are folded under other rules than the configured ones."""
        return row_codec.decode_pinned(self._generation_column("pinned"))

    def ledger_fingerprint(self) -> str | None:
        """Return the fingerprint of the ledger's event at the position of the read models."""
        return self._generation_column("ledger_fingerprint")

    def page_id(self) -> str | None:
        """Return the id of the last page that was written; None before the first."""
        return self._generation_column("page_id")

    def latest_recorded_at(self) -> int:
        """Return the latest time of recording of the events up to the position of the read models."""
        latest = self._generation_column("latest_recorded_at")
        with row_codec.translate_decode_errors("high-water marks"):
            if type(latest) is not int:
                raise ValueError(f"the latest time of recording is {latest!r}")
        return latest

    def last_mark_at(self, moment: int) -> int:
        """Return the last position with a high-water mark that isn't later than a moment; 0 if there is none."""
        row = self.select_one(
            f"SELECT position FROM {self.marks_table} WHERE recorded_at <= ?"
            " ORDER BY recorded_at DESC, position DESC LIMIT 1",
            (moment,),
        )
        return 0 if row is None else row[0]

    def meters(self) -> Mapping[str, ProjectedMeter]:
        """Return the meters, by event name."""
        rows = self.select(f"SELECT event_name, rules, history, source FROM {self.meters_table} ORDER BY meter")
        return {row[0]: row_codec.decode_meter(*row) for row in rows}

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer in these read models, or None."""
        row = self.select_one(f"SELECT customer FROM {self.customers_table} WHERE name = ?", (customer,))
        return None if row is None else row[0]

    def customer_ids(self, customers: Sequence[str]) -> Mapping[str, int]:
        """Return the ids of those of these customers that have one in these read models."""
        return dict(self.select_customer_ids(customers))

    def last_customer_id(self) -> int:
        """Return the highest id of a customer; 0 if there is no customer."""
        return self.select_value(f"SELECT coalesce(max(customer), 0) FROM {self.customers_table}")

    def customer_names(self, customer_ids: Iterable[int]) -> Mapping[int, str]:
        """Return the names of customers, by id. Raise CorruptedReadModel if one is missing."""
        wanted = list(customer_ids)
        names = dict(self.select_customer_names(wanted))
        missing = [customer_id for customer_id in wanted if customer_id not in names]
        with row_codec.translate_decode_errors("customers"):
            if missing:
                raise ValueError(f"there are no customers with the ids {missing}")
        return names

    def find_customers(self, text: str, limit: int) -> Sequence[str]:
        """Return up to `limit` customers whose names contain `text`: those that start with it first, by name.

        ASCII letters inside of a name match in either case. The prefix is looked up in the index, if there is one.
        """
        first = self.select(
            f"SELECT name FROM {self.customers_table} WHERE name >= ? AND name < ? ORDER BY name LIMIT ?",
            (text, text + _LAST_CHARACTER, limit),
        )
        names = dict.fromkeys(name for (name,) in first)
        if len(names) < limit:
            others = self.select(
                f"SELECT name FROM {self.customers_table} WHERE {self.POSITION_FUNCTION}(lower(name), ?) > 0"
                " ORDER BY name LIMIT ?",
                (text.translate(_ASCII_LOWER), limit + len(names)),
            )
            names |= dict.fromkeys(name for (name,) in others)
        return list(names)[:limit]

    def usage_between(
        self,
        meter_id: int,
        customer_id: int | None,
        bucket_seconds: int,
        start: int,
        end: int,
        as_of: AsOf | None = None,
    ) -> Iterator[UsageRecord]:
        """Return usage in [start, end) by (occurred_at, position), as known at `as_of`; None means all customers.

        Blocks are read in the order of their times, and overlapping blocks together, so no index by time is needed.
        """
        with self.batch():
            blocks = self.blocks_between(meter_id, customer_id, bucket_seconds, start, end)
            unsorted_blocks = self.unsorted_blocks_between(meter_id, customer_id, start, end)
        usage = self._usage_of_buckets(meter_id, customer_id, blocks, start, end, as_of)
        unsorted = self._usage_of_months(meter_id, unsorted_blocks, start, end, as_of)
        first = next(unsorted, None)
        if first is None:
            yield from usage
        else:
            yield from heapq.merge(usage, chain((first,), unsorted), key=_BY_TIME)

    def _usage_of_months(
        self, meter_id: int, blocks: Iterable[UsageBlock], start: int, end: int, as_of: AsOf | None
    ) -> Iterator[UsageRecord]:
        for _, group in groupby(blocks, lambda block: block.key[1]):
            month_blocks = list(group)
            block_usage = self.usage_in(meter_id, month_blocks)
            known_usage = (_known(records, start, end, as_of) for records in block_usage)
            yield from in_time_order(month_blocks, known_usage)

    def _usage_of_buckets(
        self,
        meter_id: int,
        customer_id: int | None,
        matching_blocks: Iterable[UsageBlock],
        start: int,
        end: int,
        as_of: AsOf | None,
    ) -> Iterator[UsageRecord]:
        # Read the blocks of one customer together; of all customers, the blocks of one bucket at a time.
        groups = (
            [matching_blocks]
            if customer_id is not None
            else (bucket_blocks for _, bucket_blocks in groupby(matching_blocks, lambda block: block.key[1]))
        )
        for group in groups:
            blocks = sorted(group, key=_EARLIEST)
            block_usage = self.usage_in(meter_id, blocks)
            known_usage = (_known(records, start, end, as_of) for records in block_usage)
            first = 0
            for count in overlap_groups(blocks):
                yield from in_time_order(blocks[first : first + count], islice(known_usage, count))
                first += count

    def customers_after(self, meter_id: int, customer_id: int, limit: int) -> Sequence[int]:
        """Return the next `limit` customer ids after `customer_id` with usage of the meter at any time, in order."""
        found: set[int] = set()
        for table in (self.usage_table, self.unsorted_table):
            following = f"SELECT min(customer) FROM {table} WHERE meter = ? AND customer >"
            rows = self.select(  # one index lookup for each customer; DISTINCT would read all of their blocks
                f"WITH RECURSIVE following (customer) AS (SELECT * FROM ({following} ?) AS first_one"
                f" UNION ALL SELECT ({following} following.customer) FROM following WHERE customer IS NOT NULL)"
                " SELECT customer FROM following WHERE customer IS NOT NULL LIMIT ?",
                (meter_id, customer_id, meter_id, limit),
            )
            found.update(customer for (customer,) in rows)
        return sorted(found)[:limit]

    def usage_of_customers(
        self,
        meter_id: int,
        customer_ids: Sequence[int],
        bucket_seconds: int,
        start: int,
        end: int,
        as_of: AsOf | None = None,
    ) -> Iterator[tuple[int, list[UsageRecord]]]:
        """Yield each of these customers that has usage in [start, end), with its records in order of time."""
        first = bucket_start(start, bucket_seconds)
        stored = self.select_usage_of_customers(self.usage_table, meter_id, customer_ids, first, start, end)
        month = bucket_start(start, MONTH_SECONDS)
        unsorted = self.select_usage_of_customers(self.unsorted_table, meter_id, customer_ids, month, start, end)
        order = {customer_id: index for index, customer_id in enumerate(customer_ids)}
        rows = heapq.merge(stored, unsorted, key=lambda row: order[row[0]])
        for customer_id, customer_rows in groupby(check_between(rows), _FIRST_COLUMN):
            records: list[UsageRecord] = []
            for *key, encoded in customer_rows:
                records += _known(row_codec.decode_block_usage(tuple(key), encoded), start, end, as_of)
            if records:
                records.sort(key=_BY_TIME)
                yield customer_id, records

    def blocks_between(
        self, meter_id: int, customer_id: int | None, bucket_seconds: int, start: int, end: int
    ) -> Iterator[UsageBlock]:
        """Return the blocks with usage in [start, end), by the start of their bucket; None means all customers."""
        first_start = bucket_start(start, bucket_seconds)
        if customer_id is None:
            rows = self.select_all_blocks(meter_id, bucket_seconds, first_start, start, end)
            return map(row_codec.decode_block_columns, check_between(rows))
        rows = self.select(
            f"SELECT {self.BLOCK_COLUMNS}, CASE WHEN length(usages) < {SHORT_BLOCK_BYTES} THEN usages END"
            f" FROM {self.usage_table} WHERE meter = ? AND customer = ?"
            " AND start >= ? AND start < ? AND latest >= ? AND earliest < ? ORDER BY start",
            (meter_id, customer_id, first_start, end, start, end),
        )
        return _blocks_with_usage(rows)

    def blocks_of(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Return all blocks of each of these buckets, in the order of the ledger."""
        return _blocks_with_usage(self.select_blocks_of(meter_id, keys))

    def unsorted_blocks_of(self, meter_id: int, months: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Return the unsorted blocks of each of these months, with their records, in the order of the ledger."""
        return _blocks_with_usage(self.select_unsorted_blocks_of(f"{self.BLOCK_COLUMNS}, usages", meter_id, months))

    def unsorted_blocks_between(
        self, meter_id: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[UsageBlock]:
        """Return the unsorted blocks with usage in [start, end), with their records; None means all customers."""
        of_customer = "" if customer_id is None else " AND customer = ?"
        customers = () if customer_id is None else (customer_id,)
        select = self.stream if customer_id is None else self.select
        return _blocks_with_usage(
            select(
                f"SELECT {self.BLOCK_COLUMNS}, usages FROM {self.unsorted_table} WHERE meter = ?{of_customer}"
                " AND start >= ? AND start < ? AND latest >= ? AND earliest < ? ORDER BY start, first_position",
                (meter_id, *customers, bucket_start(start, MONTH_SECONDS), end, start, end),
            )
        )

    def usage_in(self, meter_id: int, blocks: Sequence[UsageBlock]) -> Iterator[list[UsageRecord]]:
        """Return the usage records of each block, in the order of the ledger."""
        stored = iter(self.select_block_usage(meter_id, [block for block in blocks if block.encoded is None]))
        for block in check_between(blocks):
            (encoded,) = next(stored) if block.encoded is None else (block.encoded,)
            yield row_codec.decode_block_usage(block.key, encoded)

    def totals_between(
        self, meter_id: int, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[tuple[BucketKey, Totals]]:
        """Return the key and the totals of each bucket that starts in [start, end), by start."""
        columns = f"customer, start, dimensions, {self.TOTALS_COLUMNS}"
        rows = self.select_buckets(columns, meter_id, bucket_seconds, customer_id, start, end)
        return (
            ((bucket_customer_id, starts_at, dimensions), row_codec.decode_totals(*totals_columns))
            for bucket_customer_id, starts_at, dimensions, *totals_columns in check_between(rows)
        )

    def buckets_between(
        self, meter_id: int, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[Bucket]:
        """Return the buckets that start in [start, end), by start."""
        rows = self.select_buckets(self.BUCKET_COLUMNS, meter_id, bucket_seconds, customer_id, start, end)
        return map(row_codec.decode_bucket, check_between(rows))

    def buckets_in(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterator[Bucket]:
        """Return the buckets of the next smaller size in each of these buckets, which are of one size."""
        size = smaller_size(bucket_seconds)
        by_length: defaultdict[int, list[BucketKey]] = defaultdict(list)
        for key in keys:  # months differ in length
            by_length[bucket_end(key[1], bucket_seconds) - key[1]].append(key)
        for length, same_length in by_length.items():
            offsets = range(0, length, size * MICROSECONDS_PER_SECOND)
            rows = self.select_buckets_at(meter_id, size, offsets, same_length)
            yield from map(row_codec.decode_bucket, check_between(rows))

    def changes_after(
        self, meter_id: int, bucket_seconds: int, start: int, end: int, position: int
    ) -> Iterable[tuple[int, int]]:
        """Return the customers with a change after a position in these buckets, and the position of the last one."""
        rows = self.stream(
            f"SELECT customer, last_change FROM {self.totals_table} WHERE meter = ? AND bucket_seconds = ?"
            " AND start >= ? AND start < ? AND last_change > ?",
            (meter_id, bucket_seconds, start, end, position),
        )
        return ((customer_id, last_change) for customer_id, last_change in check_between(rows))

    def time_span(self, meter_id: int, customer_id: int | None, bucket_seconds: int) -> tuple[int, int] | None:
        """Return the starts of the first and the last bucket with usage, or None; no customer means all customers."""
        if customer_id is None:
            table, where, params = self.totals_table, "bucket_seconds = ?", (meter_id, bucket_seconds)
        else:
            table, where, params = self.usage_table, "customer = ?", (meter_id, customer_id)
        of_customer, customers = ("", ()) if customer_id is None else (" AND customer = ?", (customer_id,))
        ends = (
            *(f"(SELECT {end}(start) FROM {table} WHERE meter = ? AND {where})" for end in ("min", "max")),
            *(
                f"(SELECT {end} FROM {self.unsorted_table} WHERE meter = ?{of_customer})"
                for end in ("min(earliest)", "max(latest)")
            ),
        )
        row = self.select_one(f"SELECT {', '.join(ends)}", (*params, *params, *((meter_id, *customers) * 2)))
        first, last, earliest, latest = row or (None,) * 4
        starts = [start for start in (first, last) if start is not None]
        starts += [bucket_start(at, bucket_seconds) for at in (earliest, latest) if at is not None]
        return (min(starts), max(starts)) if starts else None

    def table_names(self) -> Sequence[str]:
        """Return the names of all tables, for `table_rows`."""
        return TABLE_NAMES

    def table_rows(self, table: str) -> Iterator[TableRow]:
        """Return all rows of a table, in the order of their keys; usage as single records, not as blocks."""
        with_months = {
            folded.meter_id
            for meter in self.meters().values()
            for folded in meter.folded
            if folded.rules.event_time_window is None
        }
        return table_rows(self, table, with_months)

    def _generation_column(self, column: str) -> Any:
        return self.select_value(
            f"SELECT {column} FROM {self.schema}generations WHERE generation = ?", (self.generation,)
        )


_EARLIEST = attrgetter("earliest")
_BY_TIME = attrgetter("occurred_at", "position")
_FIRST_COLUMN = itemgetter(0)


def _blocks_with_usage(rows: Iterable[Row]) -> Iterator[UsageBlock]:
    """Return the blocks of rows whose last column is the encoded usage of a block, or None."""
    return (row_codec.decode_block_columns(row[:-1], encoded=row[-1]) for row in check_between(rows))


def _known(records: list[UsageRecord], start: int, end: int, as_of: AsOf | None) -> list[UsageRecord]:
    """Return the records in [start, end) as they were known at `as_of`."""
    selected = [record for record in records if start <= record.occurred_at < end]
    if as_of is None:
        return selected
    return [visible for record in selected if (visible := as_of.visible(record)) is not None]
