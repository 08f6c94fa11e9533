"""Calendar windows in any timezone: they tile time without gap or overlap, also where clocks change."""

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from .errors import UnknownTimezone
from .instants import FIRST, LAST
from .wall_clocks import first_reached

_FOUR_CENTURIES = timedelta(days=146_097)
_NEAR = 2


class CalendarWindow(StrEnum):
    """The lengths of calendar windows."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    YEAR = "year"


class Anchor(NamedTuple):
    """Where days, months and years begin: all at this wall time, months on this day, years in this month.

    A day that a month doesn't have is that month's last.
    """

    month: int = 1
    day: int = 1
    wall_time: time = time(0)


CALENDAR = Anchor()
"""Days begin at midnight, months on the 1st, years in January."""


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


def window_around(
    at: datetime, window: CalendarWindow, timezone: ZoneInfo, anchor: Anchor = CALENDAR
) -> tuple[datetime, datetime]:
    """The start and end, in UTC, of the window that holds `at`; cut to what a datetime can name, years 1 to 9999.

    Minutes and hours are those of the clock; days, months and years begin as `anchor` says.
    """
    shift = _from_the_ends(at)
    if window in (CalendarWindow.MINUTE, CalendarWindow.HOUR):
        bounds = _clock_window(at + shift, 60 if window is CalendarWindow.MINUTE else 3_600, timezone)
    else:
        bounds = _date_window(at + shift, window, timezone, anchor)
    return _back(bounds[0], shift, FIRST), _back(bounds[1], shift, LAST)


def windows(
    start: datetime, end: datetime, window: CalendarWindow, timezone: ZoneInfo, anchor: Anchor = CALENDAR
) -> Iterator[tuple[datetime, datetime]]:
    """The windows that tile [start, end), in UTC; the first and last are cut to it."""
    while start < end:
        following = min(window_around(start, window, timezone, anchor)[1], end)
        yield start, following
        start = following


def _from_the_ends(at: datetime) -> timedelta:
    """How far to move `at` from the ends of time, so that a window around it can be told; calendars repeat by it."""
    if at.year - FIRST.year < _NEAR:
        return _FOUR_CENTURIES
    return -_FOUR_CENTURIES if LAST.year - at.year < _NEAR else timedelta(0)


def _back(at: datetime, shift: timedelta, end_of_time: datetime) -> datetime:
    try:
        return at - shift
    except OverflowError:
        return end_of_time


def _date_window(at: datetime, window: CalendarWindow, timezone: ZoneInfo, anchor: Anchor) -> tuple[datetime, datetime]:
    def beginning(number: int) -> datetime:
        first = _first_day(number, window, anchor)
        return first_reached(datetime.combine(first, anchor.wall_time), timezone)

    number = _number(at.astimezone(timezone).date(), window)
    while (start := beginning(number)) > at:  # the anchor lies later in the calendar's window
        number -= 1
    while (following := beginning(number + 1)) <= at:  # a day is skipped, or clocks went back over a beginning
        start, number = following, number + 1
    return start, following


def _clock_window(at: datetime, seconds: int, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    local = at.astimezone(timezone)
    into = timedelta(seconds=(local.minute * 60 + local.second) % seconds, microseconds=local.microsecond)
    start = at.astimezone(UTC) - into
    return start, start + timedelta(seconds=seconds)


def _number(day: date, window: CalendarWindow) -> int:
    """The number of the calendar's window that `day` is in; they count up one by one."""
    if window is CalendarWindow.DAY:
        return day.toordinal()
    return day.year if window is CalendarWindow.YEAR else day.year * 12 + day.month - 1


def _first_day(number: int, window: CalendarWindow, anchor: Anchor) -> date:
    """The day that the window of this number begins on."""
    if window is CalendarWindow.DAY:
        return date.fromordinal(number)
    year, month = (number, anchor.month) if window is CalendarWindow.YEAR else (number // 12, number % 12 + 1)
    return date(year, month, min(anchor.day, monthrange(year, month)[1]))
