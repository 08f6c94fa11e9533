"""Calendar windows: in any timezone they cover time without gaps or overlaps."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.calendar import (
    CalendarWindow,
    get_timezone,
    iter_windows,
    timezone_names,
    window_containing,
    window_of_date,
)
from tallybook.domain.errors import InvalidTimeRange, UnknownTimezone

ZONES = st.sampled_from(sorted(timezone_names()))
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
SPANS = {
    CalendarWindow.MINUTE: timedelta(minutes=90),
    CalendarWindow.HOUR: timedelta(days=3),
    CalendarWindow.DAY: timedelta(days=70),
    CalendarWindow.MONTH: timedelta(days=800),
    CalendarWindow.YEAR: timedelta(days=4_000),
}


@given(ZONES, MOMENTS, st.sampled_from(CalendarWindow), st.floats(0, 1))
def test_windows_tile_any_range(name: str, start: datetime, window: CalendarWindow, part: float) -> None:
    """The windows of [start, end) are consecutive, from start to end, and not empty."""
    end = start + SPANS[window] * part
    tiles = list(islice(iter_windows(start, end, window, get_timezone(name)), 10_000))
    bounds = [start, *(until for _, until in tiles)]
    assert [since for since, _ in tiles] == bounds[:-1]
    assert bounds[-1] == end
    assert all(since < until for since, until in tiles)


@given(ZONES, MOMENTS, st.sampled_from(CalendarWindow))
def test_a_window_contains_its_timestamp(name: str, at: datetime, window: CalendarWindow) -> None:
    """The window of a time contains it, and is the window of its own first and last microsecond."""
    start, end = window_containing(at, window, get_timezone(name))
    assert start <= at < end
    assert window_containing(start, window, get_timezone(name)) == (start, end)
    assert window_containing(end - timedelta(microseconds=1), window, get_timezone(name)) == (start, end)


DATES = [CalendarWindow.DAY, CalendarWindow.MONTH, CalendarWindow.YEAR]


@given(ZONES, MOMENTS, st.sampled_from(DATES))
def test_a_day_month_or_year_is_of_one_date(name: str, at: datetime, window: CalendarWindow) -> None:
    """All times in a day window have one local date, in a month window one month; adjacent windows have others."""
    start, end = window_containing(at, window, get_timezone(name))
    inside = [at, start, end - timedelta(microseconds=1)]
    outside = [start - timedelta(microseconds=1), end]

    def label(moment: datetime) -> tuple[int, ...]:
        local = moment.astimezone(ZoneInfo(name))
        return (local.year, local.month, local.day)[: 3 - DATES.index(window)]

    assert len({label(moment) for moment in inside}) == 1
    assert label(at) not in {label(moment) for moment in outside}


@given(ZONES, st.dates(date(1900, 1, 1), date(2100, 1, 1)))
def test_consecutive_dates_tile_time(name: str, day: date) -> None:
    """The day of a date ends where that of the next date starts, unless the timezone skipped one of them."""
    zone, days = get_timezone(name), [day + timedelta(days=index) for index in range(4)]
    bounds: list[tuple[datetime, datetime]] = []
    for each in days:
        with suppress(InvalidTimeRange):
            start, end = window_of_date(each, CalendarWindow.DAY, zone)
            assert window_containing(start, CalendarWindow.DAY, zone) == (start, end)
            assert start.astimezone(zone).date() == each
            bounds.append((start, end))
    assert len(bounds) >= 3
    assert all(end == following for (_, end), (following, _) in pairwise(bounds))


@pytest.mark.parametrize(
    ("name", "day"),
    [("Pacific/Apia", "2011-12-30"), ("Pacific/Kwajalein", "1993-08-21"), ("Asia/Manila", "1844-12-31")],
)
def test_a_date_that_a_timezone_skipped_is_no_day(name: str, day: str) -> None:
    """It isn't the next day. Months and years around it are as usual."""
    skipped, zone = date.fromisoformat(day), get_timezone(name)
    with pytest.raises(InvalidTimeRange, match=f"There is no day {day} in {name}"):
        window_of_date(skipped, CalendarWindow.DAY, zone)
    before = window_of_date(skipped - timedelta(days=1), CalendarWindow.DAY, zone)
    after = window_of_date(skipped + timedelta(days=1), CalendarWindow.DAY, zone)
    assert before[1] == after[0]
    for window in (CalendarWindow.MONTH, CalendarWindow.YEAR):
        start, end = window_of_date(skipped, window, zone)
        assert start < before[1] <= end


@pytest.mark.parametrize(
    ("name", "day", "start", "end"),
    [
        ("Asia/Tokyo", "0001-01-01", "0001-01-01T00:00Z", "0001-01-01T14:41:01Z"),
        ("America/Los_Angeles", "9999-12-31", "9999-12-31T08:00Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_the_first_and_the_last_date_are_cut(name: str, day: str, start: str, end: str) -> None:
    """To the limits of a datetime."""
    bounds = window_of_date(date.fromisoformat(day), CalendarWindow.DAY, get_timezone(name))
    assert bounds == (datetime.fromisoformat(start), datetime.fromisoformat(end))


@pytest.mark.parametrize(
    "name",
    [
        "", "Mars/Olympus", "localtime", "posixrules", "Factory", "posix/Europe/Berlin", "right/Europe/Berlin",
        "/usr/share/zoneinfo/Europe/Berlin", "../zoneinfo/Europe/Berlin", "Europe/../Europe/Berlin", "America",
        "Europe/", "europe/berlin", "EUROPE/BERLIN", "utc", " UTC", "UTC\n", "tzdata.zi", "zone.tab", "leapseconds",
        "UTC+1", "Europe/Berlin\0", "Europe\\Berlin", None, 1, b"UTC", ZoneInfo("UTC"),
    ],
    ids=repr,
)  # fmt: skip
def test_only_names_of_the_iana_database_are_timezones(name: object) -> None:
    """Whatever files the operating system has, and whether it ignores case."""
    with pytest.raises(UnknownTimezone):
        get_timezone(name)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5", "US/Pacific"])
def test_names_of_the_iana_database(name: str) -> None:
    """Links to older names are names too."""
    assert get_timezone(name).key == name


def lengths(name: str, first: str, last: str, window: CalendarWindow) -> list[float]:
    """Return the lengths in hours of the windows between two local times."""
    start, end = (datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(name)).astimezone(UTC) for text in (first, last))
    return [
        (until - since) / timedelta(hours=1) for since, until in iter_windows(start, end, window, get_timezone(name))
    ]


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("UTC", "2026-03-29", 24),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("America/Sao_Paulo", "2018-11-04", 23),  # clocks skip midnight itself
        ("Africa/Cairo", "2026-04-24", 23),  # and here
        ("America/Havana", "2026-11-01", 25),  # midnight comes twice
        ("Australia/Lord_Howe", "2026-10-04", 23.5),  # half an hour of summer time
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kathmandu", "2026-03-29", 24),
        ("Asia/Kathmandu", "1986-01-01", 23.75),  # a quarter of an hour skipped at midnight
        ("America/Toronto", "1919-03-30", 23.5),  # from half past eleven to half past midnight
        ("America/Toronto", "1919-03-31", 23.5),
    ],
)
def test_days_are_as_long_as_the_clocks_make_them(name: str, day: str, hours: float) -> None:
    """From local midnight to local midnight: 23 or 25 hours at a DST change."""
    start = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(name))
    since, until = window_containing(start, CalendarWindow.DAY, get_timezone(name))
    assert (until - since) / timedelta(hours=1) == hours


def test_a_day_that_never_was() -> None:
    """Apia skipped 30 December 2011: the 31st follows the 29th at once."""
    assert lengths("Pacific/Apia", "2011-12-29T00:00", "2012-01-01T00:00", CalendarWindow.DAY) == [24, 24]
    assert lengths("Pacific/Apia", "2011-12-01T00:00", "2012-01-01T00:00", CalendarWindow.MONTH) == [30 * 24]


def test_hours_are_clock_hours() -> None:
    """In Kathmandu they start at a quarter past the UTC hour; a day with a DST change has 23 or 25 of them."""
    at = datetime(2026, 11, 10, 10, 20, tzinfo=UTC)
    start, end = window_containing(at, CalendarWindow.HOUR, get_timezone("Asia/Kathmandu"))
    assert (f"{start:%H:%M}", f"{end:%H:%M}") == ("10:15", "11:15")
    assert lengths("Europe/Berlin", "2026-03-29T00:00", "2026-03-30T00:00", CalendarWindow.HOUR) == [1] * 23
    assert lengths("Europe/Berlin", "2026-10-25T00:00", "2026-10-26T00:00", CalendarWindow.HOUR) == [1] * 25


def test_months_are_as_long_as_they_are() -> None:
    """28 to 31 days, an hour more or less at a DST change, and leap years."""
    hours = lengths("Europe/Berlin", "2024-01-01T00:00", "2025-01-01T00:00", CalendarWindow.MONTH)
    days = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    assert [round(length / 24) for length in hours] == days
    assert [length - 24 * day_count for length, day_count in zip(hours, days, strict=True)] == [
        0,
        0,
        -1,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("name", "at", "start", "end"),
    [
        ("UTC", "2023-08-08T09:30Z", "2023-01-01T00:00Z", "2024-01-01T00:00Z"),
        ("America/Los_Angeles", "2023-08-08T09:30Z", "2023-01-01T08:00Z", "2024-01-01T08:00Z"),
        ("Asia/Tokyo", "2023-12-31T15:00Z", "2023-12-31T15:00Z", "2024-12-31T15:00Z"),
        ("Pacific/Apia", "2011-12-30T09:00Z", "2011-01-01T10:00Z", "2011-12-31T10:00Z"),
        ("Europe/Paris", "1911-06-01T00:00Z", "1910-12-31T23:50:39Z", "1912-01-01T00:00Z"),
        ("UTC", "0001-01-01T00:00Z", "0001-01-01T00:00Z", "0002-01-01T00:00Z"),
        ("Asia/Tokyo", "0002-06-01T00:00Z", "0001-12-31T14:41:01Z", "0002-12-31T14:41:01Z"),
        ("UTC", "9998-12-31T23:59Z", "9998-01-01T00:00Z", "9999-01-01T00:00Z"),
        ("Asia/Tokyo", "9998-12-31T23:59Z", "9998-12-31T15:00Z", "9999-12-31T15:00Z"),
        ("America/Los_Angeles", "9999-12-31T23:59Z", "9999-01-01T08:00Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_years(name: str, at: str, start: str, end: str) -> None:
    """From local midnight to local midnight, cut to the limits of a datetime."""
    moment, *bounds = (datetime.fromisoformat(text) for text in (at, start, end))
    assert list(window_containing(moment, CalendarWindow.YEAR, get_timezone(name))) == bounds


def test_minutes_tile_an_hour() -> None:
    """60 of them."""
    start = datetime(2026, 11, 10, 10, tzinfo=UTC)
    tiles = list(iter_windows(start, start + timedelta(hours=1), CalendarWindow.MINUTE, get_timezone("UTC")))
    assert len(tiles) == 60
    assert all(end == following for (_, end), (following, _) in pairwise(tiles))


def test_an_empty_range_has_no_windows() -> None:
    """A range from a time to itself has no windows."""
    at = datetime(2026, 11, 10, tzinfo=UTC)
    assert list(iter_windows(at, at, CalendarWindow.DAY, get_timezone("UTC"))) == []


@pytest.mark.parametrize("window", [CalendarWindow.DAY, CalendarWindow.MONTH])
def test_a_midnight_that_comes_twice(window: CalendarWindow) -> None:
    """If a DST change goes back over midnight, the repeated hour belongs to the new day, which has started already."""
    newfoundland = get_timezone("America/St_Johns")  # on 2 November 2008 clocks went back from 00:01 to 23:01
    second_midnight = datetime(2008, 11, 2, 3, 5, tzinfo=UTC)
    start, end = window_containing(second_midnight, window, newfoundland)
    assert start <= second_midnight < end
    time_range = second_midnight - timedelta(days=1), second_midnight + timedelta(minutes=5)
    tiles = list(iter_windows(*time_range, window, newfoundland))
    assert [since for since, _ in tiles[1:]] == [until for _, until in tiles[:-1]]
    assert (tiles[0][0], tiles[-1][1]) == time_range
