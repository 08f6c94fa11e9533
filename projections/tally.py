"""Keeping buckets up to date with one page of a meter's usages and cancels."""

from collections import defaultdict
from collections.abc import Iterable
from functools import reduce

from ..domain.counting import counted
from ..domain.errors import ProjectionStopped
from .buckets import DAY_SECONDS, HOUR_SECONDS, bucket_end, bucket_start
from .fold import MeterPage
from .rows import Bucket, BucketKey, WritableRows
from .totals import Totals


def tally(rows: WritableRows, page: MeterPage) -> None:
    """Bring the usage rows and buckets of one meter up to date with `page`.

    New usages are added to their buckets. A bucket with a cancel in it is counted anew from its usage rows, so no
    formula has to be undone.
    """
    meter, window, smallest = page.meter.number, page.meter.rules.event_time_window, page.bucket_seconds
    rows.add_usages(meter, page.usages)
    _mark(rows, page)
    disturbed = {mark.key for mark in page.marks}
    # Of new usages without a cancel all count, unless a window lets one replace the others.
    new = ((key, group if window is None else counted(group, window)) for key, group in page.usages.items())
    added = {key: Totals.of(group) for key, group in new if key not in disturbed}
    # Under a window, which is the smallest bucket, whatever is kept arrived before this page and is replaced by it.
    grown = _onto_kept(rows, meter, smallest, added) if window is None else added
    _put(rows, meter, smallest, grown | _recounted(rows, page, disturbed))
    if smallest == HOUR_SECONDS:
        stale = {_day_of(key) for key in (disturbed if window is None else disturbed | added.keys())}
        gained = _by_day(added, stale)
        _put(rows, meter, DAY_SECONDS, _onto_kept(rows, meter, DAY_SECONDS, gained) | _days_anew(rows, meter, stale))


def _mark(rows: WritableRows, page: MeterPage) -> None:
    for mark in rows.mark_cancelled(page.meter.number, page.marks):
        raise ProjectionStopped(
            f"The cancel at position {mark.cancelled_position} is of a meter event that isn't recorded "
            f"at position {mark.position}, or is cancelled already.",
            mark.cancelled_position,
        )


def _recounted(rows: WritableRows, page: MeterPage, disturbed: Iterable[BucketKey]) -> dict[BucketKey, Totals]:
    """The buckets that have a cancel in them, counted anew; empty where nothing in them counts any more."""
    meter, window, size = page.meter.number, page.meter.rules.event_time_window, page.bucket_seconds
    recounted: dict[BucketKey, Totals] = {}
    for customer, start, dimensions in disturbed:
        usages = rows.usages(meter, customer, size, start, bucket_end(start, size))
        group = [usage for usage in usages if usage.dimensions == dimensions]
        recounted[customer, start, dimensions] = Totals.of(counted(group, window))
    return recounted


def _onto_kept(
    rows: WritableRows, meter: int, bucket_seconds: int, added: dict[BucketKey, Totals]
) -> dict[BucketKey, Totals]:
    kept = rows.kept_buckets(meter, bucket_seconds, list(added))
    return {key: kept[key].merge(totals) if key in kept else totals for key, totals in added.items()}


def _by_day(added: dict[BucketKey, Totals], stale: set[BucketKey]) -> dict[BucketKey, Totals]:
    """What is added to each day that isn't made up anew."""
    days: defaultdict[BucketKey, Totals] = defaultdict(Totals)
    for key, totals in added.items():
        day = _day_of(key)
        if day not in stale:
            days[day] = days[day].merge(totals)
    return days


def _days_anew(rows: WritableRows, meter: int, stale: Iterable[BucketKey]) -> dict[BucketKey, Totals]:
    """The stale days, made up from their hours."""
    days: dict[BucketKey, Totals] = {}
    for customer, day, dimensions in stale:
        hours = rows.buckets(meter, HOUR_SECONDS, customer, day, bucket_end(day, DAY_SECONDS))
        parts = (hour.totals for hour in hours if hour.dimensions == dimensions)
        days[customer, day, dimensions] = reduce(Totals.merge, parts, Totals())
    return days


def _day_of(key: BucketKey) -> BucketKey:
    customer, start, dimensions = key
    return customer, bucket_start(start, DAY_SECONDS), dimensions


def _put(rows: WritableRows, meter: int, bucket_seconds: int, totals: dict[BucketKey, Totals]) -> None:
    rows.put_buckets(meter, bucket_seconds, (Bucket(*key, of) for key, of in totals.items()))
