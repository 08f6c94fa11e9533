"""The changes that one page of the ledger makes to the read model of a meter."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from .blocks import (
    BucketKey,
    UsageBlock,
    split_into_blocks,
    totals_of_rows,
    unfiltered,
)
from .buckets import bucket_sizes
from .fold import MeterPageUsage, PartUsage
from .models import Bucket, CancellationMark, FoldedRules, ProjectedMeter


class PartDelta(NamedTuple):
    """The changes to the usage under one part of a meter's rules over time.

    `blocks` contain the new records, and `buckets` are computed from them alone. `cancellations` are those of new or
    earlier records and their revocations, in ledger order.
    """

    folded: FoldedRules
    blocks: Sequence[UsageBlock]
    buckets: Sequence[Bucket]
    cancellations: Sequence[CancellationMark]

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


def compute_delta(meter_usage: MeterPageUsage) -> MeterDelta:
    """Return the changes that a page makes to a meter's read model."""
    parts = [_part_delta(part) for part in meter_usage.parts if part.rows_by_bucket or part.cancellations]
    return MeterDelta(meter_usage.meter, meter_usage.has_meter_changes, parts)


def _part_delta(part: PartUsage) -> PartDelta:
    rules = part.folded.rules
    window, has_filter = rules.event_time_window, rules.filter is not None
    blocks = [
        UsageBlock.from_rows(key, rows, has_filter=has_filter)
        for key, bucket_rows in part.rows_by_bucket.items()
        for rows in split_into_blocks(bucket_rows)
    ]
    buckets = _sum_buckets(blocks)
    if window is not None:  # the bucket is the window: the last record that isn't filtered counts
        for index, bucket in enumerate(buckets):
            rows = unfiltered(part.rows_by_bucket[bucket.key])
            buckets[index] = msgspec.structs.replace(bucket, totals=totals_of_rows(rows[-1:]))
    return PartDelta(part.folded, blocks, buckets, part.cancellations)


def _sum_buckets(blocks: Sequence[UsageBlock]) -> list[Bucket]:
    """Return the buckets of the blocks, as they are without an event time window."""
    buckets: dict[BucketKey, Bucket] = {}
    for block in blocks:
        bucket = buckets.get(block.key)
        buckets[block.key] = Bucket(block.key, block.totals, block.changes) if bucket is None else bucket.merge(block)
    return list(buckets.values())
