"""Which bounds and which range of usage a period can have among the closed periods of a customer."""

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from .errors import PeriodOverlaps

Time = TypeVar("Time", datetime, int)


def fit_counted_range(
    closed: Iterable[tuple[tuple[Time, Time], tuple[Time, Time]]], bounds: tuple[Time, Time], counted: tuple[Time, Time]
) -> tuple[Time, Time]:
    """Return the range of the usage to count in a period, given that of its event time windows.

    `closed` are the bounds of the closed periods of the customer and the ranges of their usage. See
    `CustomerPeriods.counted_range`.
    """
    (start, end), (counted_from, counted_until) = bounds, counted
    for (other_start, other_end), (other_from, other_until) in closed:
        if other_end <= start:
            counted_from = other_until if other_end == start else max(counted_from, other_until)
        elif end <= other_start:
            counted_until = other_from if other_start == end else min(counted_until, other_from)
    return counted_from, counted_until


def check_overlap(closed: Iterable[tuple[datetime, datetime]], start: datetime, end: datetime) -> None:
    """Raise PeriodOverlaps if [start, end) overlaps one of the closed periods of a customer on a meter."""
    for closed_start, closed_end in closed:
        if closed_start < end and start < closed_end:
            raise PeriodOverlaps(
                f"The period overlaps the closed one from {closed_start} to {closed_end}; reopen that first.",
                field="start",
                value=start,
            )
