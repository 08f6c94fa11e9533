"""Keeping buckets up to date with one page of a meter's usages and cancels."""

from collections import defaultdict
from collections.abc import Iterable

from ..domain.counting import Usage, counted
from ..domain.errors import ProjectionStopped
from ..domain.instants import MICROSECONDS_PER_SECOND
from .buckets import DAY_SECONDS, HOUR_SECONDS, bucket_end, bucket_sizes, bucket_start
from .fold import MeterPage
from .rows import Bucket, BucketKey, WritableRows
from .totals import Totals


def tally(rows: WritableRows, page: MeterPage) -> None:
    """Bring the usage rows and buckets of one meter up to date with `page`.

    New usages are added to their buckets. A bucket with a cancel in it is counted anew from its usage rows, so no
    formula has to be undone.
    """
    meter, window = page.meter.number, page.meter.rules.event_time_window
    smallest = bucket_sizes(window)[-1]
    rows.add_usages(meter, page.usages)
    _mark(rows, page)
    disturbed = {(mark.customer, bucket_start(mark.occurred_at, smallest)) for mark in page.marks}
    added = _added(page, smallest, disturbed)
    # Under a window, whatever is kept arrived before this page: the newest of the page has replaced it.
    grown = _onto_kept(rows, meter, smallest, added) if window is None else added
    _put(rows, meter, smallest, grown | _recounted(rows, page, smallest, disturbed))
    if smallest == HOUR_SECONDS:
        remade = disturbed if window is None else disturbed | {(customer, start) for customer, start, _ in added}
        stale = {(customer, bucket_start(start, DAY_SECONDS)) for customer, start in remade}
        gained = _by_day(added, stale)
        _put(rows, meter, DAY_SECONDS, _onto_kept(rows, meter, DAY_SECONDS, gained) | _days_anew(rows, meter, stale))


def _mark(rows: WritableRows, page: MeterPage) -> None:
    for mark in page.marks:
        if not rows.mark_cancelled(page.meter.number, mark):
            raise ProjectionStopped(
                f"The cancel at position {mark.cancelled_position} is of an event that isn't recorded "
                f"at position {mark.position}, or is cancelled already.",
                mark.cancelled_position,
            )


def _added(page: MeterPage, bucket_seconds: int, disturbed: set[tuple[int, int]]) -> dict[BucketKey, Totals]:
    """What the new usages add to each bucket that has no cancel in it."""
    window = page.meter.rules.event_time_window
    return {
        key: Totals.of(counted(usages, window))
        for key, usages in _by_bucket(page.usages, bucket_seconds).items()
        if key[:2] not in disturbed
    }


def _recounted(
    rows: WritableRows, page: MeterPage, bucket_seconds: int, disturbed: Iterable[tuple[int, int]]
) -> dict[BucketKey, Totals]:
    """The buckets that have a cancel in them, counted anew; empty where nothing in them counts any more."""
    meter, window = page.meter.number, page.meter.rules.event_time_window
    recounted: dict[BucketKey, Totals] = {}
    for customer, start in disturbed:
        usages = rows.usages(meter, customer, start, bucket_end(start, bucket_seconds))
        for key, group in _by_bucket(usages, bucket_seconds).items():
            recounted[key] = Totals.of(counted(group, window))
    return recounted


def _by_bucket(usages: Iterable[Usage], bucket_seconds: int) -> dict[BucketKey, list[Usage]]:
    groups: defaultdict[BucketKey, list[Usage]] = defaultdict(list)
    width = bucket_seconds * MICROSECONDS_PER_SECOND
    for usage in usages:
        at = usage.occurred_at
        groups[usage.customer, at - at % width, usage.dimensions].append(usage)
    return groups


def _onto_kept(
    rows: WritableRows, meter: int, bucket_seconds: int, added: dict[BucketKey, Totals]
) -> dict[BucketKey, Totals]:
    kept = rows.kept_buckets(meter, bucket_seconds, list(added))
    return {key: kept[key].merge(totals) if key in kept else totals for key, totals in added.items()}


def _by_day(added: dict[BucketKey, Totals], stale: set[tuple[int, int]]) -> dict[BucketKey, Totals]:
    """What is added to each day that isn't made up anew."""
    days: defaultdict[BucketKey, Totals] = defaultdict(Totals)
    for (customer, start, dimensions), totals in added.items():
        key = (customer, bucket_start(start, DAY_SECONDS), dimensions)
        if key[:2] not in stale:
            days[key] = days[key].merge(totals)
    return days


def _days_anew(rows: WritableRows, meter: int, stale: Iterable[tuple[int, int]]) -> dict[BucketKey, Totals]:
    """The stale days, made up from their hours."""
    days: defaultdict[BucketKey, Totals] = defaultdict(Totals)
    for customer, day in stale:
        for hour in rows.buckets(meter, HOUR_SECONDS, customer, day, bucket_end(day, DAY_SECONDS)):
            key = (customer, day, hour.dimensions)
            days[key] = days[key].merge(hour.totals)
    return days


def _put(rows: WritableRows, meter: int, bucket_seconds: int, totals: dict[BucketKey, Totals]) -> None:
    rows.put_buckets(meter, bucket_seconds, (Bucket(*key, of) for key, of in totals.items()))
