"""Buckets: totals of whole UTC days, and of hours for meters with an hour window, so that long ranges read few rows."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..domain.event_time_window import EventTimeWindow
from ..domain.timestamps import MICROSECONDS_PER_SECOND

HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400


class RangePart(NamedTuple):
    """A part [start, end) of a range, in microseconds, to read from buckets of one size; from records if None."""

    bucket_seconds: int | None
    start: int
    end: int


def bucket_sizes(window: EventTimeWindow | None) -> tuple[int, ...]:
    """Return the sizes of the buckets of a meter with `window`, largest first. The smallest is the window, if any."""
    return (DAY_SECONDS, HOUR_SECONDS) if window is EventTimeWindow.HOUR else (DAY_SECONDS,)


def bucket_start(at: int, bucket_seconds: int) -> int:
    """Return the start of the bucket that contains `at`."""
    return at - at % (bucket_seconds * MICROSECONDS_PER_SECOND)


def bucket_end(start: int, bucket_seconds: int) -> int:
    """Return the end of the bucket that starts at `start`."""
    return start + bucket_seconds * MICROSECONDS_PER_SECOND


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
    first, last = -bucket_start(-start, largest), bucket_start(end, largest)
    if first >= last:
        yield from _split_range(start, end, smaller)
        return
    yield from _split_range(start, first, smaller)
    yield RangePart(largest, first, last)
    yield from _split_range(last, end, smaller)
