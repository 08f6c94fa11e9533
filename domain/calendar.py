"""Calendar windows in any timezone: they tile time without gap or overlap, also where clocks change."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from .errors import UnknownTimezone
from .instants import FIRST, LAST

_FOUR_CENTURIES = timedelta(days=146_097)


class CalendarWindow(StrEnum):
    """The lengths of calendar windows."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


def zone(name: str) -> ZoneInfo:
    """The IANA timezone called `name`; raises UnknownTimezone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:
        raise UnknownTimezone(
            f"There is no timezone {name!r}; use an IANA name like 'Europe/Berlin' or 'UTC'.",
            field="timezone",
            value=name,
        ) from error


def window_around(at: datetime, window: CalendarWindow, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    """The start and end, in UTC, of the window that holds `at`; cut to what a datetime can name, years 1 to 9999."""
    shift = _from_the_ends(at)
    if window in (CalendarWindow.MINUTE, CalendarWindow.HOUR):
        bounds = _clock_window(at + shift, 60 if window is CalendarWindow.MINUTE else 3_600, timezone)
    else:
        bounds = _date_window(at + shift, window, timezone)
    return _back(bounds[0], shift, FIRST), _back(bounds[1], shift, LAST)


def windows(
    start: datetime, end: datetime, window: CalendarWindow, timezone: ZoneInfo
) -> Iterator[tuple[datetime, datetime]]:
    """The windows that tile [start, end), in UTC; the first and last are cut to it."""
    while start < end:
        following = min(window_around(start, window, timezone)[1], end)
        yield start, following
        start = following


def _from_the_ends(at: datetime) -> timedelta:
    """How far to move `at` from the ends of time, so that a window around it can be told; calendars repeat by it."""
    if at.year == FIRST.year:
        return _FOUR_CENTURIES
    return -_FOUR_CENTURIES if at.year == LAST.year else timedelta(0)


def _back(at: datetime, shift: timedelta, end_of_time: datetime) -> datetime:
    try:
        return at - shift
    except OverflowError:
        return end_of_time


def _date_window(at: datetime, window: CalendarWindow, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    day = at.astimezone(timezone).date()
    first = day.replace(day=1) if window is CalendarWindow.MONTH else day
    following = _next(first, window)
    if _midnight(following, timezone) <= at:  # clocks went back over midnight: the new day had begun already
        first, following = following, _next(following, window)
    return _midnight(first, timezone), _midnight(following, timezone)


def _clock_window(at: datetime, seconds: int, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    local = at.astimezone(timezone)
    into = timedelta(seconds=(local.minute * 60 + local.second) % seconds, microseconds=local.microsecond)
    start = at.astimezone(UTC) - into
    return start, start + timedelta(seconds=seconds)


def _midnight(day: date, timezone: ZoneInfo) -> datetime:
    """The first instant of `day`: where clocks skip midnight, the instant they skip to; its first midnight of two."""
    return datetime.combine(day, time(0), tzinfo=timezone).astimezone(UTC)


def _next(first: date, window: CalendarWindow) -> date:
    """The first day of the window after the one that begins on `first`."""
    return (first + timedelta(days=31)).replace(day=1) if window is CalendarWindow.MONTH else first + timedelta(days=1)
