"""Writes to the read models of one generation, in SQL common to both stores."""

from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from ...domain.counting import UsageRecord
from ...projections.blocks import (
    BucketKey,
    UsageBlock,
    UsageRow,
    encode_block,
)
from ...projections.high_water_marks import HighWaterMark
from ...projections.models import Bucket, CancellationMark, ProjectedMeter
from . import row_codec
from .sql_reader import SqlReadModelReader
from .sql_statements import Row

_BLOCKS_PER_BATCH = 200
"""The number of blocks with cancellations that are in memory."""
_POSITION, _FIRST_POSITION = attrgetter("position"), attrgetter("first_position")


class SqlReadModels(SqlReadModelReader):
    """The read models of one generation inside a transaction that may write to them."""

    # --- statements that differ between the stores ------------------------------------------------------

    @abstractmethod
    def write_meter(self, row: Row) -> None:
        """Insert or replace the id, event name, rules, history and source of a meter."""

    @abstractmethod
    def write_customers(self, rows: Sequence[Row]) -> None:
        """Insert the ids and names of new customers."""

    @abstractmethod
    def write_blocks(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows of meter, block and encoded usage into the table of usage or of unsorted usage."""

    @abstractmethod
    def replace_blocks(self, rows: Sequence[Row]) -> None:
        """Replace such rows, which are identified by their bucket and first position."""

    @abstractmethod
    def delete_unsorted_blocks(self, meter_id: int, months: Sequence[BucketKey]) -> None:
        """Delete the unsorted usage of months."""

    @abstractmethod
    def write_totals(self, rows: Sequence[Row]) -> None:
        """Insert or replace rows of meter, bucket size, start, customer, dimension values, totals and changes."""

    @abstractmethod
    def add_high_water_marks(self, marks: Sequence[HighWaterMark]) -> None:
        """Insert the high-water marks of new positions."""

    @abstractmethod
    def track(self, position: int) -> None:
        """Advance the position. Raise the library's IntegrityError unless it grows."""

    @abstractmethod
    def execute(self, statement: str, params: Sequence[object] = ()) -> None:
        """Execute a statement."""

    # --- writing ----------------------------------------------------------------------------------

    def upsert_meter(self, meter: ProjectedMeter) -> None:
        """Insert or replace a meter."""
        folded, history = row_codec.encode_folded(meter.folded), row_codec.encode_history(meter.history)
        self.write_meter((meter.row_id, meter.event_name, folded, history, meter.source))

    def add_customers(self, customer_ids: Mapping[str, int]) -> None:
        """Insert the ids of new customers."""
        self.write_customers([(customer_id, name) for name, customer_id in customer_ids.items()])

    def last_short_blocks(self, meter_id: int, keys: Sequence[BucketKey]) -> Iterable[UsageBlock]:
        """Return the last stored block of each of these buckets, if it is short."""
        rows = self.select_last_short_blocks(meter_id, keys) if keys else ()
        return (row_codec.decode_block_columns(row[:-1], row[-1]) for row in rows)

    def add_blocks(
        self, meter_id: int, blocks: Sequence[UsageBlock], last_short_blocks: Iterable[UsageBlock]
    ) -> Mapping[BucketKey, UsageBlock]:
        """Insert new blocks. Append the first one of a bucket to its block among `last_short_blocks`.

        Return the last block of each bucket.
        """
        last_blocks = {block.key: block for block in last_short_blocks}
        new_rows: list[Row] = []
        extended_rows: list[Row] = []
        written: dict[BucketKey, UsageBlock] = {}
        with row_codec.translate_decode_errors("usage"):
            for block in blocks:
                last_block = last_blocks.pop(block.key, None) if last_blocks else None
                stored = block if last_block is None else last_block.append(block)
                rows = new_rows if last_block is None else extended_rows
                rows.append((meter_id, *row_codec.encode_block_columns(stored), stored.encoded))
                written[block.key] = stored
        self.write_blocks(self.usage_table, new_rows)
        self.replace_blocks(extended_rows)
        return written

    def unsorted_sizes(self, meter_id: int, months: Sequence[BucketKey]) -> Iterable[tuple[BucketKey, int]]:
        """Return the size of the encoded unsorted usage of each of these months that has any."""
        rows = self.select_unsorted_sizes(meter_id, months) if months else ()
        return (((customer_id, start, dimensions), size) for customer_id, start, dimensions, size in rows)

    def all_unsorted_sizes(self, meter_id: int) -> Iterable[tuple[BucketKey, int]]:
        """Return the size of the encoded unsorted usage of each month of a meter, the oldest first."""
        rows = self.stream(
            f"SELECT customer, start, dimensions, sum({self.LENGTH_FUNCTION}(usages)) FROM {self.unsorted_table}"
            " WHERE meter = ? GROUP BY customer, start, dimensions ORDER BY min(first_position)",
            (meter_id,),
        )
        return (((customer_id, start, dimensions), int(size)) for customer_id, start, dimensions, size in rows)

    def unsorted_rows_of(
        self, meter_id: int, months: Sequence[BucketKey]
    ) -> Iterator[tuple[BucketKey, Sequence[UsageRow]]]:
        """Return the unsorted records of each of these months, in the order of the ledger."""
        columns = "customer, start, dimensions, usages"
        for customer_id, start, dimensions, stored in self.select_unsorted_blocks_of(columns, meter_id, months):
            yield (customer_id, start, dimensions), row_codec.decode_block_rows(stored)

    def add_unsorted_blocks(self, meter_id: int, blocks: Sequence[UsageBlock]) -> None:
        """Insert unsorted blocks."""
        rows = [(meter_id, *row_codec.encode_block_columns(block), block.encoded) for block in blocks]
        self.write_blocks(self.unsorted_table, rows)

    def mark_cancelled(self, meter_id: int, cancellations: Iterable[CancellationMark]) -> Sequence[CancellationMark]:
        """Apply cancellations and revocations to their records, and return those that can't be applied."""
        marks = list(cancellations)
        by_bucket: defaultdict[BucketKey, list[UsageBlock]] = defaultdict(list)
        for block in self.blocks_of(meter_id, list(dict.fromkeys(mark.key for mark in marks))) if marks else ():
            by_bucket[block.key].append(block)
        changes: dict[tuple[BucketKey, int], tuple[UsageBlock, list[CancellationMark]]] = {}
        missing: list[CancellationMark] = []
        for mark in marks:
            blocks = by_bucket[mark.key]
            index = bisect_right(blocks, mark.position, key=_FIRST_POSITION) - 1
            if index < 0:
                missing.append(mark)
                continue
            block = blocks[index]
            changes.setdefault((mark.key, block.first_position), (block, []))[1].append(mark)
        blocks_with_marks = list(changes.values())
        for first in range(0, len(blocks_with_marks), _BLOCKS_PER_BATCH):
            missing += self._change_blocks(meter_id, blocks_with_marks[first : first + _BLOCKS_PER_BATCH])
        return missing

    def _change_blocks(
        self, meter_id: int, changes: Sequence[tuple[UsageBlock, Sequence[CancellationMark]]]
    ) -> list[CancellationMark]:
        missing: list[CancellationMark] = []
        rows: list[Row] = []
        usage = self.usage_in(meter_id, [block for block, _ in changes])
        for (block, marks), records in zip(changes, usage, strict=True):
            missing += _apply_marks(marks, records)
            changed = UsageBlock.from_usage(block.key, records)
            rows.append((meter_id, *row_codec.encode_block_columns(changed), encode_block(records)))
        self.replace_blocks(rows)
        return missing

    def upsert_buckets(self, meter_id: int, bucket_seconds: int, buckets: Iterable[Bucket]) -> None:
        """Insert or replace buckets, which are identified by their key; also empty ones."""
        self.write_totals(
            [
                (meter_id, bucket_seconds, start, customer_id, dimensions, *row_codec.encode_bucket(bucket))
                for bucket in buckets
                for customer_id, start, dimensions in (bucket.key,)
            ]
        )

    def buckets_of(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> Iterable[Bucket]:
        """Return each of these buckets that exists."""
        return map(row_codec.decode_bucket, self.select_buckets_by_key(meter_id, bucket_seconds, keys))

    def advance_position(self, position: int, fingerprint: str, latest: int, page_id: str) -> None:
        """Store the position up to which the ledger is projected, in the same transaction as the rows."""
        self.execute(
            f"UPDATE {self.schema}generations SET ledger_fingerprint = ?, page_id = ?, latest_recorded_at ="
            " CASE WHEN latest_recorded_at < ? THEN ? ELSE latest_recorded_at END WHERE generation = ?",
            (fingerprint, page_id, latest, latest, self.generation),
        )
        self.track(position)


def _apply_marks(marks: Iterable[CancellationMark], records: list[UsageRecord]) -> list[CancellationMark]:
    """Replace the records of a block that are cancelled or counted again; return the marks that can't be applied."""
    missing: list[CancellationMark] = []
    for mark in marks:
        index = bisect_left(records, mark.position, key=_POSITION)
        found = index < len(records) and records[index].position == mark.position
        changed = mark.apply(records[index]) if found else None
        if changed is None:
            missing.append(mark)
        else:
            records[index] = changed
    return missing
