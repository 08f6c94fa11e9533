"""Buckets: totals of whole UTC days, so that a long range reads few rows; and of hours under a window of an hour."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..domain.instants import MICROSECONDS_PER_SECOND
from ..domain.rules import EventTimeWindow

HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400


class Piece(NamedTuple):
    """A stretch of time [start, end), in microseconds, to be read from buckets of one size, or from usage rows."""

    bucket_seconds: int | None
    start: int
    end: int


def bucket_sizes(window: EventTimeWindow | None) -> tuple[int, ...]:
    """The sizes of the buckets kept under `window`, largest first; the smallest is the window, where there is one."""
    return (DAY_SECONDS, HOUR_SECONDS) if window is EventTimeWindow.HOUR else (DAY_SECONDS,)


def bucket_start(at: int, bucket_seconds: int) -> int:
    """When the bucket around `at` begins."""
    return at - at % (bucket_seconds * MICROSECONDS_PER_SECOND)


def bucket_end(start: int, bucket_seconds: int) -> int:
    """When the bucket that begins at `start` ends."""
    return start + bucket_seconds * MICROSECONDS_PER_SECOND


def pieces(boundaries: Sequence[int], sizes: Sequence[int]) -> list[Piece]:
    """The fewest stretches to read for the windows between `boundaries`: large buckets first, rows for ragged edges."""
    merged: list[Piece] = []
    for start, end in pairwise(boundaries):
        for piece in _split(start, end, sizes):
            if merged and merged[-1].bucket_seconds == piece.bucket_seconds and merged[-1].end == piece.start:
                merged[-1] = merged[-1]._replace(end=piece.end)
            else:
                merged.append(piece)
    return merged


def _split(start: int, end: int, sizes: Sequence[int]) -> Iterator[Piece]:
    if start >= end:
        return
    if not sizes:
        yield Piece(None, start, end)
        return
    largest, smaller = sizes[0], sizes[1:]
    first, last = -bucket_start(-start, largest), bucket_start(end, largest)
    if first >= last:
        yield from _split(start, end, smaller)
        return
    yield from _split(start, first, smaller)
    yield Piece(largest, first, last)
    yield from _split(last, end, smaller)
