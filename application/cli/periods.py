"""Time as it is typed: periods, ranges and moments, read by the clocks of a timezone."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import typer

from ...domain.billing_cycle import BillingCycle
from ...domain.calendar import CalendarWindow, window_around, zone

_PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_NOON = time(12)
_NAMES = {CalendarWindow.YEAR: "%Y", CalendarWindow.MONTH: "%Y-%m", CalendarWindow.DAY: "%Y-%m-%d"}
Read = TypeVar("Read")
Bounds = tuple[datetime, datetime]


class Span(NamedTuple):
    """The time asked about, [start, end), in UTC, by whose clocks it is shown, and how it was asked."""

    start: datetime
    end: datetime
    timezone: ZoneInfo
    shown: str


def asked_span(
    period: str | None, start: str | None, end: str | None, timezone: str, *, now: datetime, anchor: str | None = None
) -> Span:
    """The period, or the range from `start` to `end`, or the month that `now` is in.

    With an anchor, the period of its billing cycle that begins in `period`. Raises UnknownTimezone; wrong usage where
    it can't be read.
    """
    local = zone(timezone)
    if anchor is not None:
        if period is None:
            raise typer.BadParameter("--anchor goes with --period: the month, day or year that the period begins in.")
        return _anchored(period, anchor, timezone, local)
    if start is None and end is None:
        asked = f"{now.astimezone(local):%Y-%m}" if period is None else period
        bounds, _ = _asked_period(asked, local)
        return Span(*bounds, local, f"{asked} ({timezone})")
    if period is not None or start is None or end is None:
        raise typer.BadParameter("Give either --period, or both --from and --to.")
    bounds = _moment(start, "--from", local), _moment(end, "--to", local)
    return Span(*bounds, local, f"{start} to {end} ({timezone})")


def asked_as_of(text: str | None, timezone: str) -> datetime | int | None:
    """A position where `text` is a whole number, else a moment."""
    if text is None:
        return None
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    return _moment(text, "--as-of", zone(timezone), "a position in the ledger or an ISO datetime")


def asked_moment(text: str, option: str, timezone: str) -> datetime:
    """A moment in UTC: an ISO date or datetime; one without an offset is read in `timezone`."""
    return _moment(text, option, zone(timezone))


def _moment(text: str, option: str, local: ZoneInfo, wanted: str = "an ISO date or datetime") -> datetime:
    def moment(text: str) -> datetime:
        at = datetime.fromisoformat(text)
        return (at.replace(tzinfo=local) if at.tzinfo is None else at).astimezone(UTC)

    return _read(text, option, moment, wanted)


def _asked_period(text: str, local: ZoneInfo) -> tuple[Bounds, CalendarWindow]:
    return _read(text, "--period", lambda text: _period(text, local), "a month like 2026-11, a day or a year")


def _period(text: str, local: ZoneInfo) -> tuple[Bounds, CalendarWindow]:
    """The bounds of a calendar period, and what it is: a year, a month or a day."""
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year, month, day = (int(part) if part else None for part in found.groups())
    assert year is not None
    if month is None:
        window, within = CalendarWindow.YEAR, date(year, 6, 15)
    else:
        window = CalendarWindow.MONTH if day is None else CalendarWindow.DAY
        within = date(year, month, 15 if day is None else day)
    return window_around(_noon(within, local), window, local), window


def _anchored(period: str, anchor: str, timezone: str, local: ZoneInfo) -> Span:
    """The period of an anchored cycle that begins in a calendar period."""
    (_, following), window = _asked_period(period, local)
    cycle = BillingCycle(str(window), timezone, _moment(anchor, "--anchor", local))
    start, end = cycle.around(following - timedelta(microseconds=1))
    return Span(start, end, local, f"{in_words(start, end, local)} ({timezone})")


def in_words(start: datetime, end: datetime, timezone: ZoneInfo) -> str:
    """A period by the clocks of `timezone`: a year, month or day by its name, another by its bounds."""
    for window, shape in _NAMES.items():
        if window_around(start, window, timezone) == (start, end):
            return start.astimezone(timezone).strftime(shape)
    return f"{_bound(start, timezone)} to {_bound(end, timezone)}"


def _bound(at: datetime, timezone: ZoneInfo) -> str:
    try:
        local = at.astimezone(timezone).replace(tzinfo=None)
    except OverflowError:  # the ends of time, by clocks that show another year already
        local = at.replace(tzinfo=None)
    if local.time() == time(0):
        return f"{local:%Y-%m-%d}"
    exactness = "auto" if local.second or local.microsecond else "minutes"
    return local.isoformat(sep=" ", timespec=exactness)


def _noon(day: date, local: ZoneInfo) -> datetime:
    """A moment surely within `day`, whatever its clocks do at night."""
    return datetime.combine(day, _NOON, tzinfo=local)


def _read(text: str, option: str, read: Callable[[str], Read], wanted: str) -> Read:
    try:
        return read(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not {wanted}.", param_hint=f"'{option}'") from None
