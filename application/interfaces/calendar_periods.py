"""Calendar periods as text: `2026-11` is a month, `2026-11-05` a day, `2026` a year."""

import re
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from ...domain.calendar import CalendarWindow, window_containing, window_of_date
from .formatting import format_local

Bounds = tuple[datetime, datetime]

_PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_PATTERNS = {CalendarWindow.YEAR: "%Y", CalendarWindow.MONTH: "%Y-%m", CalendarWindow.DAY: "%Y-%m-%d"}


def period_bounds(text: str, zone: ZoneInfo) -> tuple[Bounds, CalendarWindow]:
    """Return the bounds of a calendar period, and whether it is a year, a month or a day. Raises ValueError."""
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day = (int(part) if part else None for part in match.groups())
    assert year is not None
    if month is None:
        window, day_inside = CalendarWindow.YEAR, date(year, 1, 1)
    else:
        window = CalendarWindow.MONTH if day is None else CalendarWindow.DAY
        day_inside = date(year, month, day or 1)
    return window_of_date(day_inside, window, zone), window


def format_period(start: datetime, end: datetime, timezone: ZoneInfo) -> str:
    """Return a period in local time: the name of a calendar year, month or day, otherwise the two bounds."""
    for window, pattern in _PATTERNS.items():
        if window_containing(start, window, timezone) == (start, end):
            return start.astimezone(timezone).strftime(pattern)
    return f"{_format_bound(start, timezone)} to {_format_bound(end, timezone)}"


def _format_bound(at: datetime, timezone: ZoneInfo) -> str:
    try:
        local = at.astimezone(timezone)
    except OverflowError:  # the local time is before year 1 or after year 9999
        local = at.replace(tzinfo=None)
    if local.time() == time(0):
        return f"{local:%Y-%m-%d}"
    return format_local(local, "auto" if local.second or local.microsecond else "minutes")
