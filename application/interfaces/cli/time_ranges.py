"""Parses times as they are typed: periods, ranges and datetimes in the local time of a timezone."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import typer

from ....domain.billing_cycle import BillingCycle
from ....domain.calendar import CalendarWindow, get_timezone, resolve_local_time
from ....domain.errors import InvalidTimeRange
from ....domain.timestamps import parse_iso
from ..calendar_periods import Bounds, format_period, period_bounds
from .option_groups import TimeRangeOptions

_LIKELY_DATE = re.compile(r"(?:19|20|21)[0-9]{6}")
_DATE_OR_DATETIME = "a date like 2026-11-01 or a datetime like 2026-11-01T10:00+01:00"
Parsed = TypeVar("Parsed")


class TimeRange(NamedTuple):
    """The time range [start, end) in UTC, the timezone to show times in, and the range as the user typed it."""

    start: datetime
    end: datetime
    timezone: ZoneInfo
    label: str


def parse_time_range(options: TimeRangeOptions, *, now: datetime) -> TimeRange:
    """Return the period, or the range from start to end, or the month that contains `now`.

    With an anchor, return the period of its billing cycle that starts in the period. Raises UnknownTimezone, and
    BadParameter if an option cannot be parsed.
    """
    period, start, end, timezone = options.period, options.start, options.end, options.timezone
    zone = get_timezone(timezone)
    if options.anchor is not None:
        if period is None:
            raise typer.BadParameter(
                "--anchor needs --period: the month, day or year in which the billing period starts."
            )
        return _parse_anchored_period(period, options.anchor, timezone, zone)
    if start is None and end is None:
        text = f"{now.astimezone(zone):%Y-%m}" if period is None else period
        bounds, _ = _parse_period(text, zone)
        return TimeRange(*bounds, zone, f"{text} ({timezone})")
    if period is not None or start is None or end is None:
        raise typer.BadParameter("Use either --period, or both --from and --to.")
    bounds = _parse_datetime(start, "--from", zone), _parse_datetime(end, "--to", zone)
    if bounds[0] == bounds[1] and start != end:
        raise InvalidTimeRange(f"The clocks in {timezone} were set past {start} to {end}.", field="from", value=start)
    return TimeRange(*bounds, zone, f"{start} to {end} ({timezone})")


def parse_as_of(
    text: str | None, timezone: str, head: Callable[[], int], option: str = "--as-of"
) -> datetime | int | None:
    """Return a position if `text` is a whole number, otherwise a datetime in UTC.

    Raises BadParameter for a number like 20261101 beyond the `head` of the ledger, as it is meant as a date.
    """
    if text is None:
        return None
    if re.fullmatch(r"-?\d{1,18}", text):
        position, day = int(text), _compact_date(text)
        if day is not None and position > head():
            raise typer.BadParameter(
                f"{text!r} is a position after the end of the ledger; if it is a date, write {day}.",
                param_hint=f"'{option}'",
            )
        return position
    return _parse_datetime(text, option, get_timezone(timezone), f"a position in the ledger, {_DATE_OR_DATETIME}")


def _compact_date(text: str) -> date | None:
    """Return the date that a number stands for in the form yyyyMMdd; None if it is a position more likely."""
    try:
        return parse_iso(text).date() if _LIKELY_DATE.fullmatch(text) else None
    except ValueError:
        return None


def parse_datetime(text: str, option: str, timezone: str) -> datetime:
    """Return an ISO date or datetime in UTC; one without an offset is in the local time of `timezone`.

    Of a local time that occurs twice it is the first, and of one that is skipped the instant of the change.
    """
    return _parse_datetime(text, option, get_timezone(timezone))


def parse_optional_datetime(text: str | None, option: str, timezone: str) -> datetime | None:
    """Return what `parse_datetime` returns; None if the option isn't given."""
    return None if text is None else parse_datetime(text, option, timezone)


def _parse_datetime(text: str, option: str, zone: ZoneInfo, expected: str = _DATE_OR_DATETIME) -> datetime:
    def parse(text: str) -> datetime:
        at = parse_iso(text)
        return resolve_local_time(at, zone) if at.tzinfo is None else at.astimezone(UTC)

    return _parse(text, option, parse, expected)


def _parse_period(text: str, zone: ZoneInfo) -> tuple[Bounds, CalendarWindow]:
    return _parse(text, "--period", lambda text: period_bounds(text, zone), "a month like 2026-11, a day or a year")


def _parse_anchored_period(period: str, anchor: str, timezone: str, zone: ZoneInfo) -> TimeRange:
    """Return the period of a billing cycle that starts in a calendar period."""
    (_, following), window = _parse_period(period, zone)
    cycle = BillingCycle(str(window), timezone, _parse_datetime(anchor, "--anchor", zone))
    start, end = cycle.period_containing(following - timedelta(microseconds=1))
    return TimeRange(start, end, zone, f"{format_period(start, end, zone)} ({timezone})")


def _parse(text: str, option: str, parse: Callable[[str], Parsed], expected: str) -> Parsed:
    try:
        return parse(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not {expected}.", param_hint=f"'{option}'") from None
