"""Calendar windows in any timezone, and the resolution of skipped and repeated local times."""

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from zoneinfo import ZoneInfo

from .errors import InvalidTimeRange, UnknownTimezone
from .plain_types import plain_text
from .text import abbreviated_repr
from .timestamps import MAX_DATETIME, MIN_DATETIME

_FOUR_CENTURIES = timedelta(days=146_097)
_LIMIT_MARGIN_YEARS = 2


class CalendarWindow(StrEnum):
    """The length of a calendar window."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    YEAR = "year"


class Anchor(NamedTuple):
    """The start of windows: days start at this local time, months on this day, years in this month.

    In a month without this day, it is the last day of the month.
    """

    month: int = 1
    day: int = 1
    wall_time: time = time(0)


CALENDAR_ANCHOR = Anchor()
"""Days start at midnight, months on the 1st, years in January."""


@cache
def timezone_names() -> frozenset[str]:
    """Return the names of the timezones in the IANA database, in the version of the package tzdata.

    ZoneInfo accepts more: files of the operating system such as `localtime`, copies with leap seconds under `right/`,
    and on some systems names in any case. A name must mean the same on every machine that reads a ledger.
    """
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split()) - {"Factory"}


def get_timezone(name: object) -> ZoneInfo:
    """Return the IANA timezone `name`. Raises UnknownTimezone."""
    text = plain_text(name)
    if text is None or text not in timezone_names():
        raise UnknownTimezone(
            f"There is no timezone {abbreviated_repr(name)}; use an IANA name like 'Europe/Berlin' or 'UTC'.",
            field="timezone",
            value=name,
        )
    return ZoneInfo(text)


def window_of_date(day: date, window: CalendarWindow, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the start and end, in UTC, of the day, month or year with the local date `day`.

    They are cut to the years 1 to 9999. Raises InvalidTimeRange for a day that the timezone skipped, as Pacific/Apia
    did when it crossed the date line.
    """
    shift = _shift_from_limits(datetime.combine(day, time(0), UTC))
    index = _window_index(day + shift, window)
    start = _unshift(_window_start(index, window, timezone, CALENDAR_ANCHOR), shift, MIN_DATETIME)
    end = _unshift(_window_start(index + 1, window, timezone, CALENDAR_ANCHOR), shift, MAX_DATETIME)
    if start == end:
        raise InvalidTimeRange(
            f"There is no {window} {day} in {timezone}: its clocks were set past it.", field="period", value=str(day)
        )
    return start, end


def window_containing(
    at: datetime, window: CalendarWindow, timezone: ZoneInfo, anchor: Anchor = CALENDAR_ANCHOR
) -> tuple[datetime, datetime]:
    """Return the start and end, in UTC, of the window that contains `at`, cut to the years 1 to 9999.

    `anchor` applies to days, months and years, not to minutes and hours.
    """
    shift = _shift_from_limits(at)
    if window in (CalendarWindow.MINUTE, CalendarWindow.HOUR):
        bounds = _clock_window(at + shift, 60 if window is CalendarWindow.MINUTE else 3_600, timezone)
    else:
        bounds = _date_window(at + shift, window, timezone, anchor)
    return _unshift(bounds[0], shift, MIN_DATETIME), _unshift(bounds[1], shift, MAX_DATETIME)


def iter_windows(
    start: datetime, end: datetime, window: CalendarWindow, timezone: ZoneInfo, anchor: Anchor = CALENDAR_ANCHOR
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the windows that cover [start, end), in UTC; the first and last are cut to it."""
    while start < end:
        window_end = min(window_containing(start, window, timezone, anchor)[1], end)
        yield start, window_end
        start = window_end


def _shift_from_limits(at: datetime) -> timedelta:
    """Return a shift away from the years 1 and 9999, after which the calendar repeats."""
    if at.year - MIN_DATETIME.year < _LIMIT_MARGIN_YEARS:
        return _FOUR_CENTURIES
    return -_FOUR_CENTURIES if MAX_DATETIME.year - at.year < _LIMIT_MARGIN_YEARS else timedelta(0)


def _unshift(at: datetime, shift: timedelta, limit: datetime) -> datetime:
    try:
        return at - shift
    except OverflowError:
        return limit


def _date_window(at: datetime, window: CalendarWindow, timezone: ZoneInfo, anchor: Anchor) -> tuple[datetime, datetime]:
    index = _window_index(at.astimezone(timezone).date(), window)
    while (start := _window_start(index, window, timezone, anchor)) > at:  # the anchor is later than `at` in its window
        index -= 1
    while (end := _window_start(index + 1, window, timezone, anchor)) <= at:  # a day is skipped, or its start repeats
        start, index = end, index + 1
    return start, end


def _clock_window(at: datetime, window_seconds: int, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    local = at.astimezone(timezone)
    elapsed = timedelta(seconds=(local.minute * 60 + local.second) % window_seconds, microseconds=local.microsecond)
    start = at.astimezone(UTC) - elapsed
    return start, start + timedelta(seconds=window_seconds)


def _window_index(day: date, window: CalendarWindow) -> int:
    """Return the consecutive number of the calendar window that contains `day`."""
    if window is CalendarWindow.DAY:
        return day.toordinal()
    return day.year if window is CalendarWindow.YEAR else day.year * 12 + day.month - 1


def _window_start(index: int, window: CalendarWindow, timezone: ZoneInfo, anchor: Anchor) -> datetime:
    """Return the start, in UTC, of the window with this number."""
    return resolve_local_time(datetime.combine(_first_day_of_index(index, window, anchor), anchor.wall_time), timezone)


def _first_day_of_index(index: int, window: CalendarWindow, anchor: Anchor) -> date:
    """Return the first day of the window with this number."""
    if window is CalendarWindow.DAY:
        return date.fromordinal(index)
    year, month = (index, anchor.month) if window is CalendarWindow.YEAR else (index // 12, index % 12 + 1)
    return date(year, month, min(anchor.day, monthrange(year, month)[1]))


def resolve_local_time(local_time: datetime, timezone: ZoneInfo) -> datetime:
    """Return the first instant, in UTC, at which the local time in `timezone` is `local_time` or later.

    For an ambiguous local time this is the first of the two instants; for a skipped one, the instant of the change. So
    the result never decreases when `local_time` increases.
    """
    offset_before, offset_after = (
        timezone.utcoffset(local_time.replace(fold=0)),
        timezone.utcoffset(local_time.replace(fold=1)),
    )
    assert offset_before is not None
    assert offset_after is not None
    if offset_before < offset_after:
        return _find_gap_end(local_time.replace(microsecond=0), offset_before, offset_after, timezone)
    return (local_time - offset_before).replace(tzinfo=UTC)


def _find_gap_end(
    local_time: datetime, offset_before: timedelta, offset_after: timedelta, timezone: ZoneInfo
) -> datetime:
    """Return the second at which the local time jumps past `local_time`; ZoneInfo doesn't provide it."""
    earliest = (local_time - offset_after).replace(tzinfo=UTC)

    def has_reached(second: int) -> bool:
        return (earliest + timedelta(seconds=second)).astimezone(timezone).replace(tzinfo=None) >= local_time

    second = bisect_left(range((offset_after - offset_before) // timedelta(seconds=1)), True, key=has_reached)
    return earliest + timedelta(seconds=second)
