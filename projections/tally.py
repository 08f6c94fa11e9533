"""Keeping runs and buckets up to date with one page of a meter's usages and cancels."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from ..domain.counting import Usage, counted
from ..domain.errors import ProjectionStopped
from .buckets import DAY_SECONDS, HOUR_SECONDS, bucket_end, bucket_start
from .gains import MeterGain
from .rows import Bucket, WritableRows
from .runs import BucketKey
from .totals import Totals


def tally(rows: WritableRows, gain: MeterGain) -> None:
    """Bring the runs and buckets of one meter up to date with what a page adds to it.

    New usages are added to their buckets; a bucket with a cancel in it is counted anew, so no formula has to be undone.
    """
    meter = gain.meter.number
    kept = rows.kept_buckets(meter, gain.bucket_seconds, list(gain.totals))
    rows.add_runs(meter, gain.runs, kept)
    _mark(rows, gain)
    disturbed = {mark.key for mark in gain.marks}
    if gain.meter.rules.event_time_window is None:
        totals = {key: kept[key].merge(new) if key in kept else new for key, new in gain.totals.items()}
        totals |= _of_runs(rows, gain, disturbed)
    else:  # all that is kept of these windows arrived before, and is replaced
        totals = {**gain.totals, **_windows_anew(rows, gain, disturbed)}
    _put(rows, meter, gain.bucket_seconds, totals)
    if gain.bucket_seconds == HOUR_SECONDS:
        _put(rows, meter, DAY_SECONDS, _days_anew(rows, meter, set(map(_day_of, totals))))


def _mark(rows: WritableRows, gain: MeterGain) -> None:
    for mark in rows.mark_cancelled(gain.meter.number, gain.marks):
        raise ProjectionStopped(
            f"The cancel at position {mark.cancelled_position} is of a meter event that isn't recorded "
            f"at position {mark.position}, or is cancelled already.",
            mark.cancelled_position,
        )


def _of_runs(rows: WritableRows, gain: MeterGain, keys: Collection[BucketKey]) -> dict[BucketKey, Totals]:
    """What all runs of each bucket add up to; nothing where no usage in it counts any more."""
    parts: defaultdict[BucketKey, list[Totals]] = defaultdict(list)
    for customer, start in _once(keys):
        end = bucket_end(start, gain.bucket_seconds)
        for run in rows.runs(gain.meter.number, customer, gain.bucket_seconds, start, end):
            parts[run.key].append(run.totals)
    return {key: Totals.together(parts[key]) for key in keys}


def _windows_anew(rows: WritableRows, gain: MeterGain, keys: Collection[BucketKey]) -> dict[BucketKey, Totals]:
    """What windows with a cancel in them come to; nothing where no usage in one counts any more."""
    totals = dict.fromkeys(keys, Totals())
    for customer, start in _once(keys):
        end = bucket_end(start, gain.bucket_seconds)
        usages: defaultdict[BucketKey, list[Usage]] = defaultdict(list)
        for usage in rows.usages(gain.meter.number, customer, gain.bucket_seconds, start, end):
            usages[customer, start, usage.dimensions].append(usage)
        window = gain.meter.rules.event_time_window
        totals |= {key: Totals.of(counted(usages[key], window)) for key in usages.keys() & totals}
    return totals


def _days_anew(rows: WritableRows, meter: int, keys: Collection[BucketKey]) -> dict[BucketKey, Totals]:
    """What the hours of days add up to."""
    parts: defaultdict[BucketKey, list[Totals]] = defaultdict(list)
    for customer, day in _once(keys):
        for hour in rows.buckets(meter, HOUR_SECONDS, customer, day, bucket_end(day, DAY_SECONDS)):
            parts[customer, day, hour.dimensions].append(hour.totals)
    return {key: Totals.together(parts[key]) for key in keys}


def _once(keys: Iterable[BucketKey]) -> set[tuple[int, int]]:
    """Customers and starts of buckets, each to be read once however many combinations of dimension values there are."""
    return {(customer, start) for customer, start, _ in keys}


def _day_of(key: BucketKey) -> BucketKey:
    customer, start, dimensions = key
    return customer, bucket_start(start, DAY_SECONDS), dimensions


def _put(rows: WritableRows, meter: int, bucket_seconds: int, totals: Mapping[BucketKey, Totals]) -> None:
    rows.put_buckets(meter, bucket_seconds, (Bucket(*key, of) for key, of in totals.items()))
