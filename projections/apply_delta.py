"""Applies the PartDeltas of a page to stored blocks and buckets."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial, reduce
from typing import NamedTuple

from ..domain.errors import ProjectionStopped
from ..domain.totals import Totals
from .blocks import MIN_BLOCK_SIZE, BucketKey, UsageBlock, encoded_size, larger_key
from .buckets import DAY_SECONDS, HOUR_SECONDS, MONTH_SECONDS, bucket_start
from .deltas import PartDelta, blocks_of_rows, sum_buckets
from .models import Bucket, FoldedRules
from .ports import ReadModelWriter
from .unsorted_usage import by_day, is_too_much, months_to_sort, oldest_months
from .windows import totals_by_window
from .written_rows import WrittenRows

_MONTHS_PER_BATCH = 10
"""The number of months whose unsorted usage is in memory while it is moved to days."""


class _StoredDays(NamedTuple):
    """The stored rows that the new records of a PartDelta in order are added to."""

    buckets: Iterable[Bucket]
    last_short_blocks: Iterable[UsageBlock]


class _StoredRows(NamedTuple):
    """The stored rows that a PartDelta changes, other than by cancellations, and its new usage by month.

    `unsorted_sizes` are the sizes of the unsorted usage of its months.
    """

    days: _StoredDays
    months: Iterable[Bucket]
    unsorted_sizes: Iterable[tuple[BucketKey, int]]
    parts_by_month: Mapping[BucketKey, Sequence[Bucket | UsageBlock]]


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
    parts_by_month = _parts_by_month(delta)
    cancelled_months = {larger_key(mark.key, MONTH_SECONDS) for mark in delta.cancellations if delta.has_months}
    return _StoredRows(
        _read_days(writer, delta, written),
        written.buckets_of(writer, meter_id, MONTH_SECONDS, list(parts_by_month)),
        written.unsorted_sizes(writer, meter_id, parts_by_month.keys() | cancelled_months),
        parts_by_month,
    )


def _read_days(writer: ReadModelWriter, delta: PartDelta, written: WrittenRows) -> _StoredDays:
    meter_id = delta.folded.meter_id
    return _StoredDays(
        written.buckets_of(writer, meter_id, delta.bucket_seconds, [bucket.key for bucket in delta.buckets]),
        written.last_short_blocks(writer, meter_id, _keys_of_few_records(delta.blocks)),
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
    days = _apply_unsorted(writer, delta, stored_rows, written)
    buckets = _apply_days(writer, delta, days, written)
    if delta.bucket_seconds == HOUR_SECONDS:
        writer.upsert_buckets(meter_id, DAY_SECONDS, _recompute_larger(writer, meter_id, DAY_SECONDS, buckets))
    elif delta.has_months:
        stored_months = {month.key: month for month in stored_rows.months}
        months = _update_months(writer, delta, stored_rows.parts_by_month, stored_months)
        writer.upsert_buckets(meter_id, MONTH_SECONDS, months.values())
        written.add_buckets(meter_id, MONTH_SECONDS, months)


def _apply_unsorted(
    writer: ReadModelWriter, delta: PartDelta, stored_rows: _StoredRows, written: WrittenRows
) -> _StoredDays:
    """Write new unsorted usage, after that of some months was moved to their days; return the stored days now."""
    meter_id, days = delta.folded.meter_id, stored_rows.days
    sizes = dict(stored_rows.unsorted_sizes)
    months = {month: sizes[month] for month in months_to_sort(delta.unsorted, sizes)}
    months |= _months_beyond_limit(writer, delta, written)
    if months:
        _sort_into_days(writer, delta.folded, list(months), written)
        written.discard_unsorted(meter_id, months)
        sizes.update(dict.fromkeys(months.keys() & sizes.keys(), 0))
        with writer.batch():
            days = _read_days(writer, delta, written)
    writer.add_unsorted_blocks(meter_id, delta.unsorted)
    for block in delta.unsorted:
        sizes[block.key] += len(block.encoded or b"")
    written.set_unsorted_sizes(meter_id, sizes)
    return days


def _months_beyond_limit(writer: ReadModelWriter, delta: PartDelta, written: WrittenRows) -> Mapping[BucketKey, int]:
    """Return the oldest months with unsorted usage, with their sizes, if the meter has too much of it."""
    added = sum(len(block.encoded or b"") for block in delta.unsorted)
    if not added or not is_too_much(written.add_to_unsorted(writer, delta.folded.meter_id, added)):
        return {}
    return oldest_months(dict(writer.all_unsorted_sizes(delta.folded.meter_id)), added)


def _sort_into_days(
    writer: ReadModelWriter, folded: FoldedRules, months: Sequence[BucketKey], written: WrittenRows
) -> None:
    """Move the unsorted usage of months, which their totals include, to the blocks and buckets of their days."""
    for first in range(0, len(months), _MONTHS_PER_BATCH):
        batch = months[first : first + _MONTHS_PER_BATCH]
        rows_by_day = by_day(writer.unsorted_rows_of(folded.meter_id, batch))
        blocks = blocks_of_rows(rows_by_day, has_filter=folded.rules.filter is not None)
        delta = PartDelta(folded, blocks, sum_buckets(blocks), ())
        with writer.batch():
            days = _read_days(writer, delta, written)
        _apply_days(writer, delta, days, written)
        writer.delete_unsorted_blocks(folded.meter_id, batch)


def _apply_days(
    writer: ReadModelWriter, delta: PartDelta, stored_days: _StoredDays, written: WrittenRows
) -> Collection[BucketKey]:
    """Write the blocks and the buckets of the smallest size; return the keys of these buckets."""
    meter_id = delta.folded.meter_id
    stored = {bucket.key: bucket for bucket in stored_days.buckets}
    written.add_last_blocks(meter_id, writer.add_blocks(meter_id, delta.blocks, stored_days.last_short_blocks))
    cancelled_keys = {cancellation.key for cancellation in delta.cancellations}
    _mark_cancelled(writer, delta)
    written.discard_last_blocks(meter_id, cancelled_keys)
    # The new records were recorded after all stored ones, so in a window they supersede them.
    add = Bucket.merge if delta.has_months else Bucket.supersede
    buckets = {new.key: add(stored[new.key], new) if new.key in stored else new for new in delta.buckets}
    buckets |= _recompute_buckets(writer, delta, cancelled_keys)
    writer.upsert_buckets(meter_id, delta.bucket_seconds, buckets.values())
    written.add_buckets(meter_id, delta.bucket_seconds, buckets)
    return buckets.keys()


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


def _parts_by_month(delta: PartDelta) -> Mapping[BucketKey, Sequence[Bucket | UsageBlock]]:
    """Return the days with new records and the new unsorted usage, by the key of their month; none with windows."""
    if not delta.has_months:
        return {}
    month_starts = {start: bucket_start(start, MONTH_SECONDS) for start in {day.key[1] for day in delta.buckets}}
    parts_by_month: defaultdict[BucketKey, list[Bucket | UsageBlock]] = defaultdict(list)
    for day in delta.buckets:
        customer_id, start, dimensions = day.key
        parts_by_month[customer_id, month_starts[start], dimensions].append(day)
    for block in delta.unsorted:
        parts_by_month[block.key].append(block)
    return parts_by_month


def _update_months(
    reader: ReadModelWriter,
    delta: PartDelta,
    new_parts: Mapping[BucketKey, Sequence[Bucket | UsageBlock]],
    stored: Mapping[BucketKey, Bucket],
) -> dict[BucketKey, Bucket]:
    """Return the months with new records, which are added, and those with a cancellation, which are recomputed."""
    months = {
        month: reduce(Bucket.merge, parts, stored[month]) if month in stored else Bucket.from_parts(month, parts)
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
    larger_keys = {larger_key(key, bucket_seconds) for key in keys}
    for bucket in reader.buckets_in(meter_id, bucket_seconds, list(larger_keys)):
        parts[larger_key(bucket.key, bucket_seconds)].append(bucket)
    return [Bucket.from_parts(key, buckets) for key, buckets in parts.items()]
