"""Billing cycles: the consecutive periods that a customer is billed for, without gaps or overlaps."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from .calendar import CALENDAR_ANCHOR, Anchor, CalendarWindow, get_timezone, iter_windows, window_containing
from .errors import InvalidParameter, InvalidTimestamp
from .plain_types import plain_text
from .text import abbreviated_repr
from .timestamps import MAX_DATETIME, ensure_time_range, ensure_utc

_INTERVALS = (CalendarWindow.DAY, CalendarWindow.MONTH, CalendarWindow.YEAR)
_MAX_UTC_OFFSET_DIFFERENCE = timedelta(hours=26)
"""The maximum difference between the local times of two timezones: from UTC-12 to UTC+14."""


@dataclass(frozen=True, slots=True)
class BillingCycle:
    """Divides time into billing periods of one `interval` (day, month or year) in `timezone`, an IANA name.

    Without an `anchor`, periods are calendar days, months or years. With an anchor, an aware datetime, every period
    starts at the anchor's local time: a month on its day (on the last day of a shorter month), a year on its day and
    month. Periods before the anchor follow the same rule. At a DST change an ambiguous local time is the first of the
    two, and a skipped local time is the instant of the change. Periods are half-open ranges in UTC.

    Raises InvalidParameter for any other interval, UnknownTimezone and InvalidTimestamp, each with the field. Source:
    Stripe's `billing_cycle_anchor` moves a day that a month lacks to the last day of that month.
    """

    interval: str = "month"
    timezone: str = "UTC"
    anchor: datetime | None = None

    def __post_init__(self) -> None:
        interval = plain_text(self.interval)
        if interval not in _INTERVALS:
            raise InvalidParameter(
                f"'interval' must be one of 'day', 'month', 'year', not {abbreviated_repr(self.interval)}.",
                field="interval",
                value=self.interval,
            )
        object.__setattr__(self, "interval", str(interval))
        object.__setattr__(self, "timezone", get_timezone(self.timezone).key)
        if self.anchor is not None:
            object.__setattr__(self, "anchor", ensure_utc(self.anchor, "anchor"))
        self._recurrence()

    def period_containing(self, at: datetime) -> tuple[datetime, datetime]:
        """Return the period that contains `at`. Raises InvalidTimestamp."""
        return window_containing(_ensure_period_start(at, "at"), *self._recurrence())

    def next_period(self, end: datetime) -> tuple[datetime, datetime]:
        """Return the period from `end`, the end of the last period, to the cycle's next boundary.

        `end` may be a boundary of another cycle, if the customer changed timezone. A boundary that follows within 26
        hours and within half a period is then the same boundary in the other timezone. It is skipped, so that no period
        of a few hours results. Raises InvalidTimestamp.
        """
        start = _ensure_period_start(end, "end")
        period_start, next_boundary = self.period_containing(start)
        is_same_boundary = (
            next_boundary - start <= _MAX_UTC_OFFSET_DIFFERENCE
            and next_boundary - start < (next_boundary - period_start) / 2
        )
        if start > period_start and is_same_boundary and next_boundary < MAX_DATETIME:
            next_boundary = self.period_containing(next_boundary)[1]
        return start, next_boundary

    def periods(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the periods that cover [start, end), the first and last cut to it. Raises InvalidTimeRange."""
        return iter_windows(*ensure_time_range(start, end), *self._recurrence())

    def _recurrence(self) -> tuple[CalendarWindow, ZoneInfo, Anchor]:
        timezone = get_timezone(self.timezone)
        return (
            CalendarWindow(self.interval),
            timezone,
            CALENDAR_ANCHOR if self.anchor is None else _local_anchor(self.anchor, timezone),
        )


def _local_anchor(anchor: datetime, timezone: ZoneInfo) -> Anchor:
    """Return the local month, day and time of `anchor` in `timezone`."""
    try:
        local = anchor.astimezone(timezone)
    except OverflowError as error:
        raise InvalidTimestamp(
            f"'anchor' is out of range in {timezone}: {anchor!r}.", field="anchor", value=anchor
        ) from error
    return Anchor(local.month, local.day, local.time())


def _ensure_period_start(at: object, field: str) -> datetime:
    utc = ensure_utc(at, field)
    if utc == MAX_DATETIME:
        raise InvalidTimestamp(f"No period starts at {field!r}, the largest datetime: {at!r}.", field=field, value=at)
    return utc
