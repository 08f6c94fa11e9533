"""Local times: resolution to an instant, skipped and repeated ones included."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.calendar import resolve_local_time, timezone_names

ZONES = st.sampled_from(sorted(timezone_names()))
LOCAL_TIMES = st.datetimes(datetime(1850, 1, 1), datetime(2100, 1, 1))
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("name", "local_time", "reached"),
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
def test_when_clocks_come_to_a_time(name: str, local_time: str, reached: str) -> None:
    """It resolves to its first occurrence, or to the change that skips it."""
    assert resolve_local_time(datetime.fromisoformat(local_time), ZoneInfo(name)) == datetime.fromisoformat(reached)


@given(ZONES, LOCAL_TIMES)
def test_it_is_the_first_instant_that_shows_the_time_or_later(name: str, local_time: datetime) -> None:
    """The local time is reached at the instant, and at no time in the two days before."""
    zone = ZoneInfo(name)
    at = resolve_local_time(local_time, zone)
    assert at.astimezone(zone).replace(tzinfo=None) >= local_time
    before = [timedelta(microseconds=1), SECOND, *(timedelta(minutes=30 * n) for n in range(1, 96))]
    assert all((at - span).astimezone(zone).replace(tzinfo=None) < local_time for span in before)
    assert at.tzinfo is UTC


@given(ZONES, LOCAL_TIMES, st.timedeltas(timedelta(0), timedelta(days=2)))
def test_a_later_time_is_never_reached_earlier(name: str, local_time: datetime, later: timedelta) -> None:
    """Later local times never resolve to earlier instants."""
    zone = ZoneInfo(name)
    assert resolve_local_time(local_time, zone) <= resolve_local_time(local_time + later, zone)
