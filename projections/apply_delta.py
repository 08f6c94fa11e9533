"""Applies a MeterDelta to stored blocks and buckets."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from ..domain.counting import UsageRecord, effective_usage
from ..domain.errors import ProjectionStopped
from .blocks import BucketKey
from .buckets import DAY_SECONDS, HOUR_SECONDS, bucket_end, bucket_start
from .fold import MeterDelta
from .models import Bucket
from .ports import ReadModelWriter
from .totals import Totals


def apply_delta(writer: ReadModelWriter, delta: MeterDelta) -> None:
    """Write the changes that one page makes to a meter's blocks and buckets.

    New records are added to their buckets. A bucket with a cancellation is recomputed from its blocks, so that no
    formula needs an inverse.
    """
    meter_id = delta.meter.meter_id
    stored = writer.get_buckets(meter_id, delta.bucket_seconds, list(delta.totals))
    writer.add_blocks(meter_id, delta.blocks, stored)
    _mark_cancelled(writer, delta)
    affected_keys = {cancellation.key for cancellation in delta.cancellations}
    if delta.meter.rules.event_time_window is None:
        totals = {key: stored[key].merge(new) if key in stored else new for key, new in delta.totals.items()}
        totals |= _totals_of_blocks(writer, delta, affected_keys)
    else:  # the new records were recorded after all stored ones, so they supersede the stored totals of a window
        totals = {**delta.totals, **_recompute_windows(writer, delta, affected_keys)}
    _write_buckets(writer, meter_id, delta.bucket_seconds, totals)
    if delta.bucket_seconds == HOUR_SECONDS:
        _write_buckets(writer, meter_id, DAY_SECONDS, _recompute_days(writer, meter_id, set(map(_day_of, totals))))


def _mark_cancelled(writer: ReadModelWriter, delta: MeterDelta) -> None:
    for missing in writer.mark_cancelled(delta.meter.meter_id, delta.cancellations):
        raise ProjectionStopped(
            f"The cancellation at position {missing.cancelled_position} refers to a meter event at position "
            f"{missing.position} that isn't recorded there or is cancelled already.",
            missing.cancelled_position,
        )


def _totals_of_blocks(
    reader: ReadModelWriter, delta: MeterDelta, keys: Collection[BucketKey]
) -> dict[BucketKey, Totals]:
    """Return the totals of all blocks of each bucket; empty totals if all of its records are cancelled."""
    parts: defaultdict[BucketKey, list[Totals]] = defaultdict(list)
    for customer_id, start in _distinct_keys(keys):
        end = bucket_end(start, delta.bucket_seconds)
        for block in reader.blocks_between(delta.meter.meter_id, customer_id, delta.bucket_seconds, start, end):
            parts[block.key].append(block.totals)
    return {key: Totals.merge_all(parts[key]) for key in keys}


def _recompute_windows(
    reader: ReadModelWriter, delta: MeterDelta, keys: Collection[BucketKey]
) -> dict[BucketKey, Totals]:
    """Return the totals of windows with a cancellation; empty totals if all records of a window are cancelled."""
    totals = dict.fromkeys(keys, Totals())
    for customer_id, start in _distinct_keys(keys):
        end = bucket_end(start, delta.bucket_seconds)
        records: defaultdict[BucketKey, list[UsageRecord]] = defaultdict(list)
        for record in reader.usage_between(delta.meter.meter_id, customer_id, delta.bucket_seconds, start, end):
            records[customer_id, start, record.dimensions].append(record)
        window = delta.meter.rules.event_time_window
        totals |= {key: Totals.from_usage(effective_usage(records[key], window)) for key in records.keys() & totals}
    return totals


def _recompute_days(reader: ReadModelWriter, meter_id: int, keys: Collection[BucketKey]) -> dict[BucketKey, Totals]:
    """Return the totals of the hour buckets of each day."""
    parts: defaultdict[BucketKey, list[Totals]] = defaultdict(list)
    for customer_id, day in _distinct_keys(keys):
        for hour in reader.buckets_between(meter_id, HOUR_SECONDS, customer_id, day, bucket_end(day, DAY_SECONDS)):
            parts[customer_id, day, hour.dimensions].append(hour.totals)
    return {key: Totals.merge_all(parts[key]) for key in keys}


def _distinct_keys(keys: Iterable[BucketKey]) -> set[tuple[int, int]]:
    """Return customer and start of each bucket without its dimension values, so that each is read once."""
    return {(customer_id, start) for customer_id, start, _ in keys}


def _day_of(key: BucketKey) -> BucketKey:
    customer_id, start, dimensions = key
    return customer_id, bucket_start(start, DAY_SECONDS), dimensions


def _write_buckets(
    writer: ReadModelWriter, meter_id: int, bucket_seconds: int, totals: Mapping[BucketKey, Totals]
) -> None:
    writer.upsert_buckets(
        meter_id, bucket_seconds, (Bucket(*key, bucket_totals) for key, bucket_totals in totals.items())
    )
