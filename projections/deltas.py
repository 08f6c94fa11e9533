"""The changes that one page of the ledger makes to the read model of a meter."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from .blocks import (
    BucketKey,
    RowsByBucket,
    RowsByCombination,
    UsageBlock,
    UsageRow,
    by_bucket,
    larger_key,
    split_into_blocks,
    totals_of_rows,
    unfiltered,
)
from .buckets import MONTH_SECONDS, bucket_sizes
from .models import Bucket, CancellationMark, FoldedRules, ProjectedMeter
from .page_usage import MeterPageUsage, PageUsage, PartUsage
from .unsorted_usage import divide_by_order


class PartDelta(NamedTuple):
    """The changes to the usage under one part of a meter's rules over time.

    `blocks` contain new records, and `buckets` are computed from them alone. `unsorted` has the new records of those
    months whose usage is out of order: one block of each. `cancellations` are those of new or earlier records and
    their revocations, in ledger order.
    """

    folded: FoldedRules
    blocks: Sequence[UsageBlock]
    buckets: Sequence[Bucket]
    cancellations: Sequence[CancellationMark]
    unsorted: Sequence[UsageBlock] = ()

    @property
    def has_months(self) -> bool:
        """Whether the usage has totals of months: if the meter has no event time window."""
        return self.folded.rules.event_time_window is None

    @property
    def bucket_seconds(self) -> int:
        """The size of the buckets of the blocks."""
        return bucket_sizes(self.folded.rules.event_time_window)[-1]


class MeterDelta(NamedTuple):
    """The changes that one page makes to a meter's read model.

    `has_meter_changes` is set if the meter was configured or its rules changed.
    """

    meter: ProjectedMeter
    has_meter_changes: bool
    parts: Sequence[PartDelta]


def compute_deltas(page_usage: PageUsage) -> list[MeterDelta]:
    """Return the changes that a page makes to the read model of each meter."""
    return [_meter_delta(meter_usage, page_usage.days) for meter_usage in page_usage.changed]


def _meter_delta(meter_usage: MeterPageUsage, days: Collection[int]) -> MeterDelta:
    parts = [_part_delta(part, days) for part in meter_usage.parts if part.rows or part.cancellations]
    return MeterDelta(meter_usage.meter, meter_usage.has_meter_changes, parts)


def _part_delta(part: PartUsage, days: Collection[int]) -> PartDelta:
    rules = part.folded.rules
    window, has_filter = rules.event_time_window, rules.filter is not None
    rows: RowsByCombination = part.rows
    unsorted_rows: Mapping[BucketKey, Sequence[UsageRow]] = {}
    if window is None:
        changed_months = {larger_key(mark.key, MONTH_SECONDS) for mark in part.cancellations}
        rows, unsorted_rows = divide_by_order(rows, changed_months, days)
    rows_by_bucket = by_bucket(rows, part.bucket_seconds, days)
    blocks = blocks_of_rows(rows_by_bucket, has_filter=has_filter)
    unsorted = [UsageBlock.from_rows(key, rows, has_filter=has_filter) for key, rows in unsorted_rows.items()]
    buckets = sum_buckets(blocks)
    if window is not None:  # the bucket is the window: the last record that isn't filtered counts
        for index, bucket in enumerate(buckets):
            customer_id, start, dimensions = bucket.key
            of_window = unfiltered(rows_by_bucket[customer_id, dimensions][start])
            buckets[index] = msgspec.structs.replace(bucket, totals=totals_of_rows(of_window[-1:]))
    return PartDelta(part.folded, blocks, buckets, part.cancellations, unsorted)


def blocks_of_rows(rows_by_bucket: RowsByBucket, *, has_filter: bool) -> list[UsageBlock]:
    """Return new records as blocks of their buckets. Some may be filtered if `has_filter`."""
    return [
        UsageBlock.from_rows((customer_id, start, dimensions), rows, has_filter=has_filter)
        for (customer_id, dimensions), rows_by_start in rows_by_bucket.items()
        for start, bucket_rows in rows_by_start.items()
        for rows in split_into_blocks(bucket_rows)
    ]


def sum_buckets(blocks: Sequence[UsageBlock]) -> list[Bucket]:
    """Return the buckets of the blocks, as they are without an event time window."""
    buckets: dict[BucketKey, Bucket] = {}
    for block in blocks:
        bucket = buckets.get(block.key)
        buckets[block.key] = Bucket(block.key, block.totals, block.changes) if bucket is None else bucket.merge(block)
    return list(buckets.values())
