"""Buckets: totals of UTC months, days and hours, so that long ranges read few rows.

A meter without an event time window has buckets of months and days. With a window, the smallest bucket is the window: a
meter with hours has days and hours, one with days has days. There are no months of these: a newer event replaces the
totals of its window, so a month would be computed again from all of its days.
"""

from calendar import monthrange
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ..domain.event_time_window import EventTimeWindow
from ..domain.timestamps import MAX_DATETIME, MICROSECONDS_PER_SECOND, from_microseconds, to_microseconds

HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400
MONTH_SECONDS = 31 * DAY_SECONDS
"""The size of the buckets of UTC months, the longest of which are this long."""
DAY_MICROSECONDS = DAY_SECONDS * MICROSECONDS_PER_SECOND
_DAY_AFTER_ALL = to_microseconds(MAX_DATETIME) // DAY_MICROSECONDS + 1
"""The number of the first day that no datetime can represent."""


class RangePart(NamedTuple):
    """A part [start, end) of a range, in microseconds, to read from buckets of one size; from records if None."""

    bucket_seconds: int | None
    start: int
    end: int


def bucket_sizes(window: EventTimeWindow | None) -> tuple[int, ...]:
    """Return the sizes of the buckets of a meter with `window`, largest first. The smallest is the window, if any."""
    match window:
        case None:
            return (MONTH_SECONDS, DAY_SECONDS)
        case EventTimeWindow.HOUR:
            return (DAY_SECONDS, HOUR_SECONDS)
        case EventTimeWindow.DAY:
            return (DAY_SECONDS,)


def has_unsorted_usage(bucket_seconds: int | None, sizes: Sequence[int]) -> bool:
    """Return whether buckets of this size, or blocks if None, may lack usage because it is unsorted.

    `sizes` are all sizes of the meter's buckets. Only a meter with months has unsorted usage, which they contain.
    """
    return sizes[0] == MONTH_SECONDS and bucket_seconds != MONTH_SECONDS


def smaller_size(bucket_seconds: int) -> int:
    """Return the size of the buckets that a larger bucket consists of."""
    return DAY_SECONDS if bucket_seconds == MONTH_SECONDS else HOUR_SECONDS


def bucket_start(at: int, bucket_seconds: int) -> int:
    """Return the start of the bucket that contains `at`."""
    if bucket_seconds == MONTH_SECONDS:
        return _month_of(at // DAY_MICROSECONDS)[0]
    return at - at % (bucket_seconds * MICROSECONDS_PER_SECOND)


def bucket_end(start: int, bucket_seconds: int) -> int:
    """Return the end of the bucket that starts at `start`."""
    if bucket_seconds == MONTH_SECONDS:
        return _month_of(start // DAY_MICROSECONDS)[1]
    return start + bucket_seconds * MICROSECONDS_PER_SECOND


def next_bucket_start(at: int, bucket_seconds: int) -> int:
    """Return the start of the first bucket that starts at `at` or later."""
    start = bucket_start(at, bucket_seconds)
    return start if start == at else bucket_end(start, bucket_seconds)


def bucket_starts(start: int, end: int, bucket_seconds: int) -> Iterator[int]:
    """Yield the start of each bucket that starts in [start, end)."""
    start = next_bucket_start(start, bucket_seconds)
    while start < end:
        yield start
        start = bucket_end(start, bucket_seconds)


@lru_cache(maxsize=10_000)
def _month_of(day: int) -> tuple[int, int]:
    """Return the start and the end of the UTC month that contains a day, given as the number of days since 1970."""
    if day == _DAY_AFTER_ALL:  # a range may end there
        return day * DAY_MICROSECONDS, (day + 31) * DAY_MICROSECONDS
    at = from_microseconds(day * DAY_MICROSECONDS)
    first_day = day - at.day + 1
    return first_day * DAY_MICROSECONDS, (first_day + monthrange(at.year, at.month)[1]) * DAY_MICROSECONDS


def cover_range(boundaries: Sequence[int], sizes: Sequence[int]) -> list[RangePart]:
    """Return the fewest parts that cover the windows between `boundaries`, with the largest possible buckets."""
    merged: list[RangePart] = []
    for start, end in pairwise(boundaries):
        for part in _split_range(start, end, sizes):
            if merged and merged[-1].bucket_seconds == part.bucket_seconds and merged[-1].end == part.start:
                merged[-1] = merged[-1]._replace(end=part.end)
            else:
                merged.append(part)
    return merged


def _split_range(start: int, end: int, sizes: Sequence[int]) -> Iterator[RangePart]:
    if start >= end:
        return
    if not sizes:
        yield RangePart(None, start, end)
        return
    largest, smaller = sizes[0], sizes[1:]
    first, last = next_bucket_start(start, largest), bucket_start(end, largest)
    if first >= last:
        yield from _split_range(start, end, smaller)
        return
    yield from _split_range(start, first, smaller)
    yield RangePart(largest, first, last)
    yield from _split_range(last, end, smaller)
