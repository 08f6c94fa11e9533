"""Timestamps in usage files."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import cast
from zoneinfo import ZoneInfo

from ...domain.calendar import resolve_local_time
from ...domain.decimals import EXACT_CONTEXT
from ...domain.errors import InvalidParameter, InvalidTimestamp
from ...domain.text import abbreviated_repr
from ...domain.timestamps import EPOCH, MICROSECOND, parse_iso
from .date_patterns import DatePattern, likely_patterns
from .formats import ColumnPattern, UnclearCell


class TimestampFormat(StrEnum):
    """How the timestamps of a file are written.

    `auto` accepts an ISO date (its midnight) or datetime, and Unix seconds of ten digits (2001 to 2286). Other numbers
    may be compact dates or a spreadsheet's day numbers, so they need one of the other formats:

    - `unix-seconds`, `unix-milliseconds` and `unix-microseconds` accept any number.
    - `compact-date` accepts yyyyMMdd, yyyyMMddHHmm and yyyyMMddHHmmss.
    - `spreadsheet-days` accepts days since 1899-12-30, with the time as a fraction; rounded to milliseconds.
    """

    AUTO = "auto"
    UNIX_SECONDS = "unix-seconds"
    UNIX_MILLISECONDS = "unix-milliseconds"
    UNIX_MICROSECONDS = "unix-microseconds"
    COMPACT_DATE = "compact-date"
    SPREADSHEET_DAYS = "spreadsheet-days"


class UnclearTimestamp(InvalidTimestamp, UnclearCell):
    """A timestamp that can be read if its format or its timezone is named."""


_VALID_FORMS: Mapping[TimestampFormat, str] = {
    TimestampFormat.AUTO: "Unix seconds of ten digits, a date like 2026-03-01 or a datetime like 2026-03-01T10:00Z",
    TimestampFormat.UNIX_SECONDS: "a number of Unix seconds",
    TimestampFormat.UNIX_MILLISECONDS: "a number of Unix milliseconds",
    TimestampFormat.UNIX_MICROSECONDS: "a number of Unix microseconds",
    TimestampFormat.COMPACT_DATE: "yyyyMMdd, yyyyMMddHHmm or yyyyMMddHHmmss",
    TimestampFormat.SPREADSHEET_DAYS: "a spreadsheet's day number from 61 (1900-03-01) up",
}
_ISO_WITH_OFFSET = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-5][0-9])"
)
_CLEAR_COLUMN = ColumnPattern(_ISO_WITH_OFFSET)
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_PLAUSIBLE_SECONDS = re.compile(r"[1-9][0-9]{9}(?:\.[0-9]{1,18})?")
_COMPACT_DATE = re.compile(r"([0-9]{8,14})(?:\.0+)?")  # programs write a column with empty cells as 20260301.0
_COMPACT_PATTERNS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_DATE_ONLY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}")
_DATE_DIGITS = 8
_FIRST_SPREADSHEET_DAY = datetime(1899, 12, 30)
_MIN_SPREADSHEET_DAYS = 61  # below, spreadsheets count a 29 February 1900
_LIKELY_SPREADSHEET_DAYS = range(20_000, 80_000)  # 1954 to 2119
_LIKELY_MILLISECONDS = range(10**12, 10**13)  # 2001 to 2286
_LIKELY_MICROSECONDS = range(10**15, 10**16)
_LIKELY_YEARS = range(1900, 2200)
_Moment = datetime | date
"""What a timestamp is before the timezone applies: an aware or a local datetime, or a date."""


class TimestampReader:
    """Reads the timestamps of a file.

    A local time is one in `timezone`; without a timezone it is rejected. A date is its midnight in `timezone`, in UTC
    without one, as in Stripe's import. `date_format` is the form of dates that are not ISO, such as `DD.MM.YYYY HH:mm`.
    """

    def __init__(
        self,
        timestamp_format: TimestampFormat = TimestampFormat.AUTO,
        *,
        date_format: str | None = None,
        timezone: ZoneInfo | None = None,
    ) -> None:
        """Raise InvalidParameter for an impossible `date_format`, or for one together with another format."""
        if date_format is not None and timestamp_format is not TimestampFormat.AUTO:
            raise InvalidParameter(
                "Name 'date_format' or 'timestamp_format', not both.", field="date_format", value=date_format
            )
        self.timestamp_format = timestamp_format
        self.timezone = timezone
        if date_format is None:
            self._parse_text, self._valid_forms = _PARSERS[timestamp_format], _VALID_FORMS[timestamp_format]
        else:
            pattern = DatePattern(date_format)
            self._parse_text, self._valid_forms = pattern.parse, f"a time in the format {date_format}"
        self._is_auto = date_format is None and timestamp_format is TimestampFormat.AUTO

    def is_clear(self, text: str) -> bool:
        """Return whether a text is an ISO datetime with its offset. It may have an impossible day or hour."""
        return self._is_auto and _ISO_WITH_OFFSET.fullmatch(text) is not None

    def are_clear(self, cells: Sequence[object]) -> bool:
        """Return whether `is_clear` is true of all cells, or all are times with a timezone."""
        if self._is_auto and _CLEAR_COLUMN.matches(cast(Sequence[str], cells)):
            return True
        return all(type(cell) is datetime and cell.tzinfo is not None for cell in cells)

    def read_clear(self, cells: Sequence[object]) -> list[datetime] | None:
        """Return the times of cells that are all clear, in UTC; None if not, or if one can't be read."""
        if not self.are_clear(cells):
            return None
        try:
            times = [cell if isinstance(cell, datetime) else datetime.fromisoformat(cast(str, cell)) for cell in cells]
            return [at if at.tzinfo is UTC else at.astimezone(UTC) for at in times]
        except (ValueError, OverflowError):
            return None

    def read(self, cell: object, column: str) -> datetime:
        """Return the time of a cell in UTC. Digits beyond microseconds are truncated.

        Raises UnclearTimestamp, which names the format or the option that fits, or InvalidTimestamp.
        Source: Stripe's import accepts yyyy-MM-dd, yyyy-MM-dd'T'HH:mm:ssZ and epoch seconds.
        """
        if type(cell) is str and self.is_clear(cell):  # the most frequent form, read twice as fast
            try:
                return datetime.fromisoformat(cell).astimezone(UTC)
            except (ValueError, OverflowError):
                pass
        if cell is None or cell == "":
            raise InvalidTimestamp(
                f"The column {column!r} has no timestamp; give {self._valid_forms}.", field=column, value=cell
            )
        problem, hint = f"must be {self._valid_forms}", ""
        try:
            if isinstance(cell, str):
                return self._to_utc(self._parse_text(cell.strip()), cell, column)
            if isinstance(cell, date):
                return self._to_utc(cell, cell, column)
        except OverflowError:
            problem = "is out of range"
        except InvalidTimestamp:
            raise
        except ValueError:
            hint = describe_unclear(str(cell).strip()) if self._is_auto else ""
        error_class = UnclearTimestamp if hint else InvalidTimestamp
        raise error_class(f"{column!r} {problem}, not {abbreviated_repr(cell)}.{hint}", field=column, value=cell)

    def _to_utc(self, moment: _Moment, cell: object, column: str) -> datetime:
        if isinstance(moment, datetime):
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        else:
            midnight = datetime.combine(moment, time())
            return (
                midnight.replace(tzinfo=UTC) if self.timezone is None else resolve_local_time(midnight, self.timezone)
            )
        if self.timezone is None:
            raise UnclearTimestamp(
                f"{column!r} is the local time {abbreviated_repr(cell)} without a timezone. Name it, such as "
                "timezone='Europe/Berlin'; or timezone='UTC' if the times are in UTC.",
                field=column,
                value=cell,
            )
        return self._from_local(moment, cell, column)

    def _from_local(self, local: datetime, cell: object, column: str) -> datetime:
        first, second = (local.replace(tzinfo=self.timezone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first == second:
            return first
        problem = "occurs twice" if first < second else "was skipped"
        raise InvalidTimestamp(
            f"{column!r}: the local time {abbreviated_repr(cell)} {problem} in {self.timezone} when the clock was "
            "changed. Write it with its offset, such as 2026-10-25T02:30+02:00.",
            field=column,
            value=cell,
        )


def _parse_auto(text: str) -> _Moment:
    if _PLAUSIBLE_SECONDS.fullmatch(text):
        return EPOCH + timedelta(seconds=int(text)) if "." not in text else _parse_seconds(text)
    if _NUMBER.fullmatch(text):
        raise ValueError(text)
    at = parse_iso(text)
    return at.date() if _DATE_ONLY.fullmatch(text) else at


def _parse_seconds(text: str) -> datetime:
    return EPOCH + _to_integer(_parse_number(text), 6) * MICROSECOND


def _parse_milliseconds(text: str) -> datetime:
    return EPOCH + _to_integer(_parse_number(text), 3) * MICROSECOND


def _parse_microseconds(text: str) -> datetime:
    return EPOCH + _to_integer(_parse_number(text), 0) * MICROSECOND


def _parse_compact_date(text: str) -> _Moment:
    match = _COMPACT_DATE.fullmatch(text)
    if match is None or len(match[1]) not in _COMPACT_PATTERNS:
        raise ValueError(text)
    at = datetime.strptime(match[1], _COMPACT_PATTERNS[len(match[1])])
    return at.date() if len(match[1]) == _DATE_DIGITS else at


def _parse_spreadsheet_days(text: str) -> _Moment:
    days = _parse_number(text)
    if days < _MIN_SPREADSHEET_DAYS:
        raise ValueError(text)
    milliseconds = _to_integer(EXACT_CONTEXT.multiply(days, Decimal(86_400)), 3, ROUND_HALF_EVEN)
    at = _FIRST_SPREADSHEET_DAY + timedelta(milliseconds=milliseconds)
    return at.date() if at.time() == time() else at


def _parse_number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return Decimal(text)


def _to_integer(number: Decimal, power_of_ten: int, rounding: str = ROUND_DOWN) -> int:
    return int(EXACT_CONTEXT.scaleb(number, power_of_ten).to_integral_value(rounding))


def describe_unclear(text: str) -> str:
    """Return a sentence that names the format that text is probably in; "" if it is in none."""
    if _NUMBER.fullmatch(text):
        return _describe_number(text)
    patterns = likely_patterns(text)
    if not patterns:
        return ""
    return " Name the form of the dates: " + " or ".join(f"date_format='{pattern}'" for pattern in patterns) + "."


def _describe_number(text: str) -> str:
    whole = int(text.partition(".")[0])
    if whole in _LIKELY_MILLISECONDS:
        kind, timestamp_format = "milliseconds", TimestampFormat.UNIX_MILLISECONDS
    elif whole in _LIKELY_MICROSECONDS:
        kind, timestamp_format = "microseconds", TimestampFormat.UNIX_MICROSECONDS
    elif _is_likely_compact_date(text):
        kind, timestamp_format = "a compact date", TimestampFormat.COMPACT_DATE
    elif whole in _LIKELY_SPREADSHEET_DAYS:
        kind, timestamp_format = "a spreadsheet's day number", TimestampFormat.SPREADSHEET_DAYS
    else:
        return f" If it is Unix seconds, read it with timestamp_format='{TimestampFormat.UNIX_SECONDS}'."
    return f" It looks like {kind}; if it is, read it with timestamp_format='{timestamp_format}'."


def _is_likely_compact_date(text: str) -> bool:
    try:
        return _parse_compact_date(text).year in _LIKELY_YEARS
    except ValueError:
        return False


_PARSERS: Mapping[TimestampFormat, Callable[[str], _Moment]] = {
    TimestampFormat.AUTO: _parse_auto,
    TimestampFormat.UNIX_SECONDS: _parse_seconds,
    TimestampFormat.UNIX_MILLISECONDS: _parse_milliseconds,
    TimestampFormat.UNIX_MICROSECONDS: _parse_microseconds,
    TimestampFormat.COMPACT_DATE: _parse_compact_date,
    TimestampFormat.SPREADSHEET_DAYS: _parse_spreadsheet_days,
}
