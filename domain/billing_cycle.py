"""Billing cycles: the periods that a customer is billed for, one after another without gap or overlap."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from .calendar import CALENDAR, Anchor, CalendarWindow, window_around, windows, zone
from .errors import InvalidParameter, InvalidTimestamp
from .instants import LAST, in_utc, time_range
from .texts import shown

_INTERVALS = (CalendarWindow.DAY, CalendarWindow.MONTH, CalendarWindow.YEAR)
_CLOCKS_DIFFER = timedelta(hours=26)
"""The most by which the clocks of two timezones differ: from UTC-12 to UTC+14."""


@dataclass(frozen=True, slots=True)
class BillingCycle:
    """How a customer's time is cut into periods: by day, month or year of the clocks of `timezone`, an IANA name.

    Without an `anchor` periods are those of the calendar. With one, an aware datetime, each begins at its wall time:
    months on its day (the last of a month that is too short), years on its day and month, before the anchor too. Of a
    wall time that comes twice the first counts, for one that is skipped the instant at which it is. Periods are
    half-open, in UTC.

    Raises InvalidParameter for another interval, UnknownTimezone and InvalidTimestamp, naming the field. Source:
    the day that is clamped to the month's last is that of Stripe's `billing_cycle_anchor`.
    """

    interval: str = "month"
    timezone: str = "UTC"
    anchor: datetime | None = None

    def __post_init__(self) -> None:
        if self.interval not in _INTERVALS:
            raise InvalidParameter(
                f"'interval' must be one of 'day', 'month', 'year', not {shown(self.interval)}.",
                field="interval",
                value=self.interval,
            )
        self._rule()

    def around(self, at: datetime) -> tuple[datetime, datetime]:
        """The period that holds `at`. Raises InvalidTimestamp."""
        return window_around(_moment(at, "at"), *self._rule())

    def after(self, end: datetime) -> tuple[datetime, datetime]:
        """The period that begins where the last one ended, at `end`: up to the cycle's next boundary.

        `end` may be of another cycle, when a customer has moved. A boundary that follows within 26 hours, and within
        half of the cycle's own period around `end`, is then the same one told by other clocks, and is passed over: no
        period is of a few hours only, and none is missing. Raises InvalidTimestamp.
        """
        start = _moment(end, "end")
        own_start, following = self.around(start)
        is_told_again = following - start <= _CLOCKS_DIFFER and following - start < (following - own_start) / 2
        if start > own_start and is_told_again and following < LAST:
            following = self.around(following)[1]
        return start, following

    def between(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The periods that tile [start, end), the first and last cut to it. Raises InvalidTimeRange."""
        return windows(*time_range(start, end), *self._rule())

    def _rule(self) -> tuple[CalendarWindow, ZoneInfo, Anchor]:
        timezone = zone(self.timezone)
        return CalendarWindow(self.interval), timezone, CALENDAR if self.anchor is None else _on(self.anchor, timezone)


def _on(anchor: datetime, timezone: ZoneInfo) -> Anchor:
    """What the calendar and the clocks of `timezone` show at `anchor`."""
    at = in_utc(anchor, "anchor")
    try:
        local = at.astimezone(timezone)
    except OverflowError as error:
        raise InvalidTimestamp(
            f"'anchor' is out of range in {timezone}: {anchor!r}.", field="anchor", value=anchor
        ) from error
    return Anchor(local.month, local.day, local.time())


def _moment(at: object, field: str) -> datetime:
    moment = in_utc(at, field)
    if moment == LAST:
        raise InvalidTimestamp(f"No period begins after {field!r}, the end of time: {at!r}.", field=field, value=at)
    return moment
