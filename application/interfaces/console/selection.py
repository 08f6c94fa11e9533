"""What the fields of most pages select: meter, customer, range of time, timezone, dimension values, and as of when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ....domain.calendar import CalendarWindow, get_timezone, resolve_local_time, window_containing
from ....domain.timestamps import ensure_utc, parse_iso
from ...meter_views import MeterView
from ..calendar_periods import format_period, period_bounds
from ..http.errors import ApiError, invalid_parameter
from .query_string import Parameters
from .registry import ViewContext

_EXPECTED = "a date like 2026-11-01 or a time like 2026-11-01T10:00"
_MAX_HOURS, _MAX_DAYS, _MAX_MONTHS = 49, 100, 1_900
"""Up to how many hours, or days, the windows of a range are hours, days or months."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected usage. `as_of` is None for the present; `as_of_text` is as it was typed.

    The range is a calendar `period`, or [start, end) if that is None.
    """

    meters: Sequence[MeterView]
    meter: MeterView | None
    customer: str | None
    period: str | None
    start: datetime
    end: datetime
    timezone: ZoneInfo
    as_of: datetime | int | None
    as_of_text: str | None
    where: Mapping[str, Sequence[str | None]]
    group_by: Sequence[str]

    @property
    def event_name(self) -> str:
        """The event name of the meter. Raises ApiError if the ledger has no meters."""
        if self.meter is None:
            raise ApiError(404, "The ledger has no meters yet. Create one with 'tallybook meter configure'.")
        return self.meter.event_name

    @property
    def range_text(self) -> str:
        """The range as it is shown: the name of the period, or its bounds."""
        return format_period(self.start, self.end, self.timezone)

    @property
    def params(self) -> dict[str, object]:
        """The parameters that select this."""
        zone = None if self.timezone.key == "UTC" else self.timezone.key
        period = {"period": self.period}
        bounds = period if self.period else {"from": self._local(self.start), "to": self._local(self.end)}
        return {
            "meter": self.meter.event_name if self.meter else None, "customer": self.customer, **bounds,
            "timezone": zone, "as_of": self.as_of_text, "where": format_where(self.where),
            "group_by": list(self.group_by),
        }  # fmt: skip

    def with_params(self, **changes: object) -> dict[str, object]:
        """Return the parameters with changes; None removes one."""
        return {**self.params, **changes}

    def for_range(
        self, start: datetime, end: datetime, params: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """Return the parameters, or those that are given, for another range."""
        return {**(params or self.params), "period": None, "from": self._local(start), "to": self._local(end)}

    def adjoining(self, step: int) -> dict[str, object] | None:
        """Return the parameters for the period before (-1) or after (1); None if the range is no calendar period."""
        if self.period is None:
            return None
        inside = self.start - timedelta(seconds=1) if step < 0 else self.end
        window = period_bounds(self.period, self.timezone)[1]
        bounds = window_containing(inside, window, self.timezone)
        return {**self.params, "period": format_period(*bounds, self.timezone)}

    @property
    def window(self) -> CalendarWindow:
        """The calendar window that divides the range into a useful number of parts."""
        length = self.end - self.start
        if length <= timedelta(hours=_MAX_HOURS):
            return CalendarWindow.HOUR
        if length <= timedelta(days=_MAX_DAYS):
            return CalendarWindow.DAY
        return CalendarWindow.MONTH if length <= timedelta(days=_MAX_MONTHS) else CalendarWindow.YEAR

    def _local(self, at: datetime) -> str:
        return at.astimezone(self.timezone).replace(tzinfo=None).isoformat(timespec="auto")


def parse_selection(context: ViewContext) -> Selection:
    """Return the selection of a request. Raises ApiError, UnknownTimezone or MeterNotFound."""
    params, metering = context.params, context.metering
    zone = get_timezone(params.get("timezone", "UTC"))
    meters = metering.meters.list()
    name = params.exact("meter")
    meter = metering.meters.get(name) if name else next(iter(meters), None)
    period, start, end = _range(params, zone, context.user.ledger.now())
    return Selection(
        meters, meter, params.exact("customer") or None, period, start, end, zone, parse_as_of(params, "as_of", zone),
        params.optional("as_of"), parse_where(params.all("where")), tuple(params.all("group_by")),
    )  # fmt: skip


def _range(params: Parameters, zone: ZoneInfo, now: datetime) -> tuple[str | None, datetime, datetime]:
    start, end, period = params.optional("from"), params.optional("to"), params.optional("period")
    if start and end and period is None:
        return None, parse_time(start, "from", zone), parse_time(end, "to", zone)
    text = period or f"{now.astimezone(zone):%Y-%m}"
    try:
        bounds, _ = period_bounds(text, zone)
    except ValueError:
        message = f"'{text[:100]}' is not a month like 2026-11, a day like 2026-11-05, or a year."
        raise invalid_parameter("period", message) from None
    return text, *bounds


def parse_time(text: str, name: str, zone: ZoneInfo) -> datetime:
    """Return a date or a time, in the local time of a timezone unless it has an offset. Raises ApiError."""
    try:
        at = parse_iso(text)
        return resolve_local_time(at, zone) if at.tzinfo is None else ensure_utc(at, name)
    except (ValueError, OverflowError):
        raise invalid_parameter(name, f"{name}: '{text[:100]}' is not {_EXPECTED}.") from None


def parse_as_of(params: Parameters, name: str, zone: ZoneInfo) -> datetime | int | None:
    """Return a field that has a position of the ledger or a time; None if it is absent. Raises ApiError."""
    text = params.optional(name)
    if text is None:
        return None
    digits = text.replace(",", "")
    if digits.isdecimal() and len(digits) < 19:  # noqa: PLR2004
        return int(digits)
    return parse_time(text, name, zone)


def parse_where(texts: Sequence[str]) -> dict[str, list[str | None]]:
    """Return dimension values from texts like `model=small`, or `region` for usage without this dimension."""
    where: dict[str, list[str | None]] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        where.setdefault(key, []).append(value if separator else None)
    return where


def format_where(where: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Return dimension values as `parse_where` reads them."""
    return [key if value is None else f"{key}={value}" for key, values in where.items() for value in values]
