"""Wall clocks: when they come to a time, also to one that they skip or show twice."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.wall_clocks import first_reached

ZONES = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"}))
WALLS = st.datetimes(datetime(1850, 1, 1), datetime(2100, 1, 1))
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("name", "wall", "reached"),
    [
        ("UTC", "2026-01-17T10:32:00.000001", "2026-01-17T10:32:00.000001Z"),
        ("Europe/Berlin", "2026-03-29T01:59:59", "2026-03-29T00:59:59Z"),
        ("Europe/Berlin", "2026-03-29T02:00", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-03-29T02:30:00.5", "2026-03-29T01:00Z"),  # skipped, from 2 to 3
        ("Europe/Berlin", "2026-03-29T03:00", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30Z"),  # the first of two
        ("Europe/Berlin", "2026-10-25T03:00", "2026-10-25T02:00Z"),
        ("Pacific/Apia", "2011-12-30T10:32", "2011-12-30T10:00Z"),  # a day that never was
        ("Pacific/Apia", "2011-12-31T00:00", "2011-12-30T10:00Z"),
        ("Pacific/Kwajalein", "1969-09-30T13:00", "1969-09-30T02:00Z"),  # nearly a day that came twice
        ("America/Toronto", "1919-03-31T00:00", "1919-03-31T04:30Z"),  # from half past eleven to half past midnight
    ],
)
def test_when_clocks_come_to_a_time(name: str, wall: str, reached: str) -> None:
    """At its first showing, or when it is skipped."""
    assert first_reached(datetime.fromisoformat(wall), ZoneInfo(name)) == datetime.fromisoformat(reached)


@given(ZONES, WALLS)
def test_it_is_the_first_instant_that_shows_the_time_or_later(name: str, wall: datetime) -> None:
    """Then the clocks show it or later, and never in the two days before."""
    zone = ZoneInfo(name)
    at = first_reached(wall, zone)
    assert at.astimezone(zone).replace(tzinfo=None) >= wall
    before = [timedelta(microseconds=1), SECOND, *(timedelta(minutes=30 * n) for n in range(1, 96))]
    assert all((at - span).astimezone(zone).replace(tzinfo=None) < wall for span in before)
    assert at.tzinfo is UTC


@given(ZONES, WALLS, st.timedeltas(timedelta(0), timedelta(days=2)))
def test_a_later_time_is_never_reached_earlier(name: str, wall: datetime, later: timedelta) -> None:
    """The clocks come to times in their order."""
    zone = ZoneInfo(name)
    assert first_reached(wall, zone) <= first_reached(wall + later, zone)
