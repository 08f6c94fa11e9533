"""Writes to the read models of one generation, in SQL common to both stores."""

from abc import abstractmethod
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter

import msgspec

from ...domain.counting import UsageRecord
from ...projections.blocks import MIN_BLOCK_SIZE, BucketKey, NewBlock, UsageBlock, concatenate_blocks, encode_block
from ...projections.models import Bucket, CancellationMark, ProjectedMeter
from . import row_codec
from .sql_reader import Row, SqlReadModelReader

_POSITION = attrgetter("position")


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
    def write_blocks(self, rows: Sequence[Row]) -> None:
        """Insert rows of meter, block and encoded usage."""

    @abstractmethod
    def replace_blocks(self, rows: Sequence[Row]) -> None:
        """Replace such rows, which are identified by their bucket and first position."""

    @abstractmethod
    def write_totals(self, rows: Sequence[Row]) -> None:
        """Insert or replace rows of meter, bucket size, start, customer, dimension values, totals and changes."""

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

    def add_blocks(self, meter_id: int, blocks: Sequence[NewBlock], existing_keys: Collection[BucketKey]) -> None:
        """Insert new blocks. If a new block and the last block of its bucket are short, merge them."""
        new_sizes: dict[BucketKey, int] = {}
        for block, size, _ in blocks:
            new_sizes[block.key] = new_sizes.get(block.key, 0) + size
        last_blocks = self._last_short_blocks(
            meter_id, [key for key, size in new_sizes.items() if size < MIN_BLOCK_SIZE and key in existing_keys]
        )
        new_rows: list[Row] = []
        extended_rows: list[Row] = []
        for block, _, encoded in blocks:
            last_block = last_blocks.pop(block.key, None)
            if last_block is None:
                new_rows.append((meter_id, *row_codec.encode_block_columns(block), encoded))
            else:
                with row_codec.translate_decode_errors("usage"):
                    extended_rows.append(
                        (
                            meter_id,
                            *row_codec.encode_block_columns(last_block[0].merge(block)),
                            concatenate_blocks(last_block[1], encoded),
                        )
                    )
        self.write_blocks(new_rows)
        self.replace_blocks(extended_rows)

    def _last_short_blocks(self, meter_id: int, keys: Sequence[BucketKey]) -> dict[BucketKey, tuple[UsageBlock, bytes]]:
        """Return the last block of each of these buckets and its encoded usage, if the block is short."""
        blocks: dict[BucketKey, tuple[UsageBlock, bytes]] = {}
        for *row, stored in self.select_last_short_blocks(meter_id, keys) if keys else ():
            block = row_codec.decode_block_columns(row)
            blocks[block.key] = block, stored
        return blocks

    def mark_cancelled(self, meter_id: int, cancellations: Iterable[CancellationMark]) -> Sequence[CancellationMark]:
        """Store cancellations on their usage records, and return the cancellations without a record."""
        rows: defaultdict[BucketKey, dict[int, list[UsageRecord]]] = defaultdict(dict)
        missing: list[CancellationMark] = []
        for cancellation in cancellations:
            records = self._block_containing(meter_id, cancellation, rows[cancellation.key])
            index = bisect_left(records, cancellation.position, key=_POSITION)
            record = records[index] if index < len(records) else None
            if record is None or record.position != cancellation.position or record.cancelled_at is not None:
                missing.append(cancellation)
                continue
            records[index] = msgspec.structs.replace(
                record, cancelled_at=cancellation.cancelled_at, cancelled_position=cancellation.cancelled_position
            )
        self.replace_blocks(
            [
                (
                    meter_id,
                    *row_codec.encode_block_columns(UsageBlock.from_usage_with_exclusions(key, records)),
                    encode_block(records),
                )
                for key, bucket in rows.items()
                for records in bucket.values()
            ]
        )
        return missing

    def _block_containing(
        self, meter_id: int, cancellation: CancellationMark, bucket: dict[int, list[UsageRecord]]
    ) -> list[UsageRecord]:
        """Return the usage records of the block that must hold the cancelled one, cached in `bucket`."""
        usage_column = "NULL" if bucket else "usages"  # the block is probably cached already
        row = self.select_one(
            f"SELECT first_position, {usage_column} FROM {self.usage_table}"
            " WHERE meter = ? AND customer = ? AND start = ? AND dimensions = ? AND first_position <= ?"
            " ORDER BY first_position DESC LIMIT 1",
            (meter_id, *cancellation.key, cancellation.position),
        )
        if row is None:
            return []
        first_position, stored = row
        if first_position not in bucket:
            bucket[first_position] = row_codec.decode_block_usage(
                cancellation.key, stored or self._read_block_usage(meter_id, cancellation.key, first_position)
            )
        return bucket[first_position]

    def _read_block_usage(self, meter_id: int, key: BucketKey, first_position: int) -> bytes:
        return self._select_value(
            f"SELECT usages FROM {self.usage_table} WHERE meter = ? AND customer = ? AND start = ?"
            " AND dimensions = ? AND first_position = ?",
            (meter_id, *key, first_position),
        )

    def upsert_buckets(self, meter_id: int, bucket_seconds: int, buckets: Iterable[Bucket]) -> None:
        """Insert or replace buckets, which are identified by their key; also empty ones."""
        self.write_totals(
            [
                (meter_id, bucket_seconds, start, customer_id, dimensions, *row_codec.encode_bucket(bucket))
                for bucket in buckets
                for customer_id, start, dimensions in (bucket.key,)
            ]
        )

    def get_buckets(self, meter_id: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> dict[BucketKey, Bucket]:
        """Return each of these buckets that exists, by key."""
        buckets = map(row_codec.decode_bucket, self.select_buckets_by_key(meter_id, bucket_seconds, keys))
        return {bucket.key: bucket for bucket in buckets}

    def advance_position(self, position: int, fingerprint: str) -> None:
        """Store the position up to which the ledger is projected, in the same transaction as the rows."""
        self.track(position)
        self.execute(
            f"UPDATE {self.schema}generations SET ledger_fingerprint = ? WHERE generation = ?",
            (fingerprint, self.generation),
        )
