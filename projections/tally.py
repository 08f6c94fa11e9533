"""Keeping runs and buckets up to date with one page of a meter's usages and cancels."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from ..domain.counting import Usage, counted
from ..domain.errors import ProjectionStopped
from .buckets import DAY_SECONDS, HOUR_SECONDS, bucket_end, bucket_start
from .fold import MeterPage
from .rows import Bucket, WritableRows
from .runs import BucketKey, Run, cut
from .totals import Totals


def tally(rows: WritableRows, page: MeterPage) -> None:
    """Bring the runs and buckets of one meter up to date with `page`.

    New usages are added to their buckets; a bucket with a cancel in it is counted anew, so no formula has to be undone.
    """
    meter = page.meter.number
    kept = rows.kept_buckets(meter, page.bucket_seconds, list(page.usages))
    runs = [(Run.of(key, run), run) for key, usages in page.usages.items() for run in cut(usages)]
    rows.add_runs(meter, runs, kept)
    _mark(rows, page)
    disturbed = {mark.key for mark in page.marks}
    if page.meter.rules.event_time_window is None:
        totals = _grown(kept, (run for run, _ in runs))
        totals |= _of_runs(rows, page, disturbed)
    else:
        totals = _of_windows(page)
        totals |= _windows_anew(rows, page, disturbed)
    _put(rows, meter, page.bucket_seconds, totals)
    if page.bucket_seconds == HOUR_SECONDS:
        _put(rows, meter, DAY_SECONDS, _days_anew(rows, meter, set(map(_day_of, totals))))


def _mark(rows: WritableRows, page: MeterPage) -> None:
    for mark in rows.mark_cancelled(page.meter.number, page.marks):
        raise ProjectionStopped(
            f"The cancel at position {mark.cancelled_position} is of a meter event that isn't recorded "
            f"at position {mark.position}, or is cancelled already.",
            mark.cancelled_position,
        )


def _grown(kept: Mapping[BucketKey, Totals], runs: Iterable[Run]) -> dict[BucketKey, Totals]:
    """What buckets add up to with new runs in them, where every event stands for itself."""
    grown: dict[BucketKey, Totals] = {}
    for run in runs:
        before = grown.get(run.key) or kept.get(run.key)
        grown[run.key] = run.totals if before is None else before.merge(run.totals)
    return grown


def _of_runs(rows: WritableRows, page: MeterPage, keys: Collection[BucketKey]) -> dict[BucketKey, Totals]:
    """What all runs of each bucket add up to; nothing where no usage in it counts any more."""
    parts: defaultdict[BucketKey, list[Totals]] = defaultdict(list)
    for customer, start in _once(keys):
        end = bucket_end(start, page.bucket_seconds)
        for run in rows.runs(page.meter.number, customer, page.bucket_seconds, start, end):
            parts[run.key].append(run.totals)
    return {key: Totals.together(parts[key]) for key in keys}


def _of_windows(page: MeterPage) -> dict[BucketKey, Totals]:
    """What each window comes to that has new usages: all that is kept of it arrived before, and is replaced."""
    window = page.meter.rules.event_time_window
    return {key: Totals.of(counted(usages, window)) for key, usages in page.usages.items()}


def _windows_anew(rows: WritableRows, page: MeterPage, keys: Collection[BucketKey]) -> dict[BucketKey, Totals]:
    """What windows with a cancel in them come to; nothing where no usage in one counts any more."""
    totals = dict.fromkeys(keys, Totals())
    for customer, start in _once(keys):
        end = bucket_end(start, page.bucket_seconds)
        usages: defaultdict[BucketKey, list[Usage]] = defaultdict(list)
        for usage in rows.usages(page.meter.number, customer, page.bucket_seconds, start, end):
            usages[customer, start, usage.dimensions].append(usage)
        window = page.meter.rules.event_time_window
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
