"""Applies the PartDeltas of a page to stored blocks and buckets."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from ..domain.errors import ProjectionStopped
from ..domain.totals import Totals
from .blocks import MIN_BLOCK_SIZE, BucketKey, UsageBlock, encoded_size
from .buckets import DAY_SECONDS, HOUR_SECONDS, MONTH_SECONDS, bucket_start
from .deltas import PartDelta
from .models import Bucket
from .ports import ReadModelWriter
from .windows import totals_by_window
from .written_rows import WrittenRows


class _StoredRows(NamedTuple):
    """The stored rows that a PartDelta changes, other than by cancellations, and its days by the key of their month."""

    buckets: Iterable[Bucket]
    months: Iterable[Bucket]
    last_short_blocks: Iterable[UsageBlock]
    parts_by_month: Mapping[BucketKey, Sequence[Bucket]]


def apply_deltas(writer: ReadModelWriter, deltas: Sequence[PartDelta], written: WrittenRows) -> None:
    """Write the changes that one page makes to the blocks and buckets of each meter, under each part of its rules.

    The rows that they change are among those that were `written` before, or are read together, because a database may
    answer several queries at once. What is written is added to `written`.
    """
    with writer.batch():
        stored_rows = [_read_stored(writer, delta, written) for delta in deltas]
    for delta, stored in zip(deltas, stored_rows, strict=True):
        _apply_delta(writer, delta, stored, written)


def _read_stored(writer: ReadModelWriter, delta: PartDelta, written: WrittenRows) -> _StoredRows:
    meter_id = delta.folded.meter_id
    parts_by_month = _parts_by_month(delta) if delta.folded.rules.event_time_window is None else {}
    return _StoredRows(
        written.buckets_of(writer, meter_id, delta.bucket_seconds, [bucket.key for bucket in delta.buckets]),
        written.buckets_of(writer, meter_id, MONTH_SECONDS, list(parts_by_month)),
        written.last_short_blocks(writer, meter_id, _keys_of_few_records(delta.blocks)),
        parts_by_month,
    )


def _keys_of_few_records(blocks: Sequence[UsageBlock]) -> list[BucketKey]:
    """Return the buckets that have so few new records that these are appended to a short block."""
    sizes: dict[BucketKey, int] = {}
    for block in blocks:
        sizes[block.key] = sizes.get(block.key, 0) + encoded_size(block.encoded or b"")
    return [key for key, size in sizes.items() if size < MIN_BLOCK_SIZE]


def _apply_delta(writer: ReadModelWriter, delta: PartDelta, stored_rows: _StoredRows, written: WrittenRows) -> None:
    """Write the changes to one meter under one part of its rules.

    New records are added to their buckets. A bucket with a cancellation is recomputed from its blocks, so that no
    formula needs an inverse.
    """
    meter_id = delta.folded.meter_id
    has_months = delta.folded.rules.event_time_window is None
    stored = {bucket.key: bucket for bucket in stored_rows.buckets}
    written.add_last_blocks(meter_id, writer.add_blocks(meter_id, delta.blocks, stored_rows.last_short_blocks))
    cancelled_keys = {cancellation.key for cancellation in delta.cancellations}
    _mark_cancelled(writer, delta)
    written.discard_last_blocks(meter_id, cancelled_keys)
    # The new records were recorded after all stored ones, so in a window they supersede them.
    add = Bucket.merge if has_months else Bucket.supersede
    buckets = {new.key: add(stored[new.key], new) if new.key in stored else new for new in delta.buckets}
    buckets |= _recompute_buckets(writer, delta, cancelled_keys)
    writer.upsert_buckets(meter_id, delta.bucket_seconds, buckets.values())
    written.add_buckets(meter_id, delta.bucket_seconds, buckets)
    if delta.bucket_seconds == HOUR_SECONDS:
        writer.upsert_buckets(meter_id, DAY_SECONDS, _recompute_larger(writer, meter_id, DAY_SECONDS, buckets))
    elif has_months:
        stored_months = {month.key: month for month in stored_rows.months}
        months = _update_months(writer, delta, stored_rows.parts_by_month, stored_months)
        writer.upsert_buckets(meter_id, MONTH_SECONDS, months.values())
        written.add_buckets(meter_id, MONTH_SECONDS, months)


def _mark_cancelled(writer: ReadModelWriter, delta: PartDelta) -> None:
    for missing in writer.mark_cancelled(delta.folded.meter_id, delta.cancellations):
        kind, state = (
            ("revocation", "isn't cancelled")
            if missing.is_revocation
            else (
                "cancellation",
                "is cancelled already",
            )
        )
        raise ProjectionStopped(
            f"The {kind} at position {missing.changed_position} refers to a meter event at position "
            f"{missing.position} that isn't recorded there or {state}.",
            missing.changed_position,
        )


def _recompute_buckets(
    reader: ReadModelWriter, delta: PartDelta, keys: Collection[BucketKey]
) -> dict[BucketKey, Bucket]:
    """Return buckets computed from their blocks; with empty totals if all of their records are cancelled."""
    meter_id = delta.folded.meter_id
    blocks = list(reader.blocks_of(meter_id, list(keys)))
    blocks_by_key: defaultdict[BucketKey, list[UsageBlock]] = defaultdict(list)
    for block in blocks:
        blocks_by_key[block.key].append(block)
    buckets = {key: Bucket.from_parts(key, parts) for key, parts in blocks_by_key.items()}
    if delta.folded.rules.event_time_window is not None:
        totals = totals_by_window(blocks, partial(reader.usage_in, meter_id))
        buckets = {key: Bucket(key, totals.get(key, Totals()), bucket.changes) for key, bucket in buckets.items()}
    return buckets


def _parts_by_month(delta: PartDelta) -> dict[BucketKey, list[Bucket]]:
    """Return the days with new records, by the key of their month."""
    month_starts = {start: bucket_start(start, MONTH_SECONDS) for start in {day.key[1] for day in delta.buckets}}
    parts_by_month: defaultdict[BucketKey, list[Bucket]] = defaultdict(list)
    for day in delta.buckets:
        customer_id, start, dimensions = day.key
        parts_by_month[customer_id, month_starts[start], dimensions].append(day)
    return parts_by_month


def _update_months(
    reader: ReadModelWriter,
    delta: PartDelta,
    new_parts: Mapping[BucketKey, Sequence[Bucket]],
    stored: Mapping[BucketKey, Bucket],
) -> dict[BucketKey, Bucket]:
    """Return the months with new records, which are added, and those with a cancellation, which are recomputed."""
    months = {
        month: Bucket.from_parts(month, [*parts, *([stored[month]] if month in stored else ())])
        for month, parts in new_parts.items()
    }
    days = {cancellation.key for cancellation in delta.cancellations}
    recomputed = _recompute_larger(reader, delta.folded.meter_id, MONTH_SECONDS, days)
    return months | {month.key: month for month in recomputed}


def _recompute_larger(
    reader: ReadModelWriter, meter_id: int, bucket_seconds: int, keys: Iterable[BucketKey]
) -> list[Bucket]:
    """Return the buckets of a larger size that contain these buckets, each computed from all smaller ones in it."""
    parts: defaultdict[BucketKey, list[Bucket]] = defaultdict(list)
    larger_keys = {_larger_key(key, bucket_seconds) for key in keys}
    for bucket in reader.buckets_in(meter_id, bucket_seconds, list(larger_keys)):
        parts[_larger_key(bucket.key, bucket_seconds)].append(bucket)
    return [Bucket.from_parts(key, buckets) for key, buckets in parts.items()]


def _larger_key(key: BucketKey, bucket_seconds: int) -> BucketKey:
    customer_id, start, dimensions = key
    return customer_id, bucket_start(start, bucket_seconds), dimensions
