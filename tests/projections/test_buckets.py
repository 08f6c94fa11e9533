"""Buckets: any range is covered by whole months, days and hours, and by records at its ragged edges."""

from calendar import monthrange
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.event_time_window import EventTimeWindow
from tallybook.domain.timestamps import from_microseconds, to_microseconds
from tallybook.projections.buckets import (
    DAY_SECONDS,
    HOUR_SECONDS,
    MONTH_SECONDS,
    RangePart,
    bucket_end,
    bucket_sizes,
    bucket_start,
    bucket_starts,
    cover_range,
)

from ..notation import moment

HOUR, DAY = HOUR_SECONDS * 1_000_000, DAY_SECONDS * 1_000_000
MOMENTS = st.one_of(
    st.integers(-3 * DAY, 3 * DAY),
    st.integers(-80, 80).map(lambda hours: hours * HOUR),
    st.integers(-3, 3).map(lambda days: days * DAY),
    st.sampled_from([-62, -31, 0, 31, 59, 90]).map(lambda days: days * DAY),  # starts of months around 1970
)
BOUNDARIES = st.lists(MOMENTS, min_size=2, max_size=5, unique=True).map(sorted)
SIZES = st.sampled_from([(MONTH_SECONDS, DAY_SECONDS), (DAY_SECONDS, HOUR_SECONDS), (DAY_SECONDS,), ()])


@given(BOUNDARIES, SIZES)
def test_parts_tile_the_range(boundaries: list[int], sizes: tuple[int, ...]) -> None:
    """From the first boundary to the last, without gaps or overlaps."""
    tiles = cover_range(boundaries, sizes)
    assert tiles[0].start == boundaries[0]
    assert tiles[-1].end == boundaries[-1]
    assert all(before.end == after.start for before, after in pairwise(tiles))


@given(BOUNDARIES, SIZES)
def test_a_bucket_lies_within_one_window(boundaries: list[int], sizes: tuple[int, ...]) -> None:
    """Parts start and end at bucket boundaries, and no window boundary is inside a bucket."""
    for size, start, end in cover_range(boundaries, sizes):
        if size is None:
            continue
        assert size in sizes
        assert bucket_start(start, size) == start
        assert bucket_start(end, size) == end
        assert all(bucket_start(at, size) == at for at in boundaries if start <= at <= end)


@given(BOUNDARIES)
def test_rows_are_read_for_less_than_an_hour_at_an_edge(boundaries: list[int]) -> None:
    """Records are read only for the parts outside whole hours."""
    for size, start, end in cover_range(boundaries, (DAY_SECONDS, HOUR_SECONDS)):
        if size is None:
            edges = [at for at in boundaries if start <= at <= end]
            assert end - start < 2 * HOUR * len(edges)
            assert any(bucket_start(at, HOUR_SECONDS) != at for at in edges)


def test_a_month_reads_days_and_its_odd_edges_hours() -> None:
    """From 1:30 to 2:45 several days later: records, hours, days, hours, records."""
    assert cover_range([HOUR + HOUR // 2, 3 * DAY + 2 * HOUR + 45 * HOUR // 60], (DAY_SECONDS, HOUR_SECONDS)) == [
        RangePart(None, HOUR + HOUR // 2, 2 * HOUR),
        RangePart(HOUR_SECONDS, 2 * HOUR, DAY),
        RangePart(DAY_SECONDS, DAY, 3 * DAY),
        RangePart(HOUR_SECONDS, 3 * DAY, 3 * DAY + 2 * HOUR),
        RangePart(None, 3 * DAY + 2 * HOUR, 3 * DAY + 2 * HOUR + 45 * HOUR // 60),
    ]


@pytest.mark.parametrize(
    ("at", "start", "end"),
    [
        ("2026-02-14T12:00", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("2024-02-29T23:59:59", "2024-02-01T00:00", "2024-03-01T00:00"),
        ("1900-02-01T00:00", "1900-02-01T00:00", "1900-03-01T00:00"),
        ("1969-12-31T23:59", "1969-12-01T00:00", "1970-01-01T00:00"),
        ("0001-01-01T00:00", "0001-01-01T00:00", "0001-02-01T00:00"),
        ("9999-11-30T00:00", "9999-11-01T00:00", "9999-12-01T00:00"),
    ],
)
def test_a_month_is_that_of_the_calendar_in_utc(at: str, start: str, end: str) -> None:
    """Leap years and the years before 1970 too."""
    first = bucket_start(to_microseconds(moment(at)), MONTH_SECONDS)
    assert (first, bucket_end(first, MONTH_SECONDS)) == (to_microseconds(moment(start)), to_microseconds(moment(end)))


def test_a_month_may_begin_after_the_last_datetime() -> None:
    """A range may end there: at the end of the year 9999."""
    end = to_microseconds(moment("9999-12-31T00:00")) + DAY
    assert (bucket_start(end, MONTH_SECONDS), bucket_end(end, MONTH_SECONDS)) == (end, end + 31 * DAY)
    assert bucket_start(end - 1, MONTH_SECONDS) == to_microseconds(moment("9999-12-01T00:00"))


@pytest.mark.parametrize(
    ("window", "sizes"),
    [(None, (MONTH_SECONDS, DAY_SECONDS)), ("hour", (DAY_SECONDS, HOUR_SECONDS)), ("day", (DAY_SECONDS,))],
)
def test_the_smallest_bucket_is_the_window(window: str | None, sizes: tuple[int, ...]) -> None:
    """With an hour window there are hours and days, with a day window days, and otherwise days and months."""
    assert bucket_sizes(None if window is None else EventTimeWindow(window)) == sizes


@given(MOMENTS, st.sampled_from([HOUR_SECONDS, DAY_SECONDS]))
def test_a_bucket_contains_its_timestamp(at: int, size: int) -> None:
    """Before 1970 too."""
    start = bucket_start(at, size)
    assert start <= at < bucket_end(start, size)
    assert start % (size * 1_000_000) == 0


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_month_contains_its_timestamp(at: datetime) -> None:
    """From its first midnight to the next one's, in every year."""
    start = bucket_start(to_microseconds(at), MONTH_SECONDS)
    assert from_microseconds(start) == at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    days = monthrange(at.year, at.month)[1]
    assert bucket_end(start, MONTH_SECONDS) == start + days * DAY
    assert list(bucket_starts(start, start + days * DAY, MONTH_SECONDS)) == [start]
    assert len(list(bucket_starts(start, start + days * DAY, DAY_SECONDS))) == days


def test_a_quarter_is_three_months() -> None:
    """A range from the middle of a month reads days up to the next one."""
    middle, quarter = 15 * DAY, (31 + 28 + 31) * DAY
    assert cover_range([0, quarter], (MONTH_SECONDS, DAY_SECONDS)) == [RangePart(MONTH_SECONDS, 0, quarter)]
    assert cover_range([middle, quarter], (MONTH_SECONDS, DAY_SECONDS)) == [
        RangePart(DAY_SECONDS, middle, 31 * DAY),
        RangePart(MONTH_SECONDS, 31 * DAY, quarter),
    ]


@pytest.mark.parametrize("window", EventTimeWindow)
def test_a_window_is_a_bucket(window: EventTimeWindow) -> None:
    """The smallest bucket size is the window, so a new total of a window replaces the stored one."""
    assert bucket_end(0, bucket_sizes(window)[-1]) == window.microseconds
