"""Timestamps in usage files."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from enum import StrEnum

from ...domain.decimals import EXACT_CONTEXT
from ...domain.errors import InvalidTimestamp
from ...domain.text import abbreviated_repr
from ...domain.timestamps import EPOCH, MICROSECOND, parse_iso


class TimestampFormat(StrEnum):
    """How the timestamps of a file are written.

    `auto` accepts an ISO date (its midnight) or datetime, and Unix seconds of ten digits (2001 to 2286). Other numbers
    may be compact dates or a spreadsheet's day numbers, so they need one of the other formats:

    - `unix-seconds` and `unix-milliseconds` accept any number.
    - `compact-date` accepts yyyyMMdd, yyyyMMddHHmm and yyyyMMddHHmmss.
    - `spreadsheet-days` accepts days since 1899-12-30, with the time as a fraction; rounded to milliseconds.
    """

    AUTO = "auto"
    UNIX_SECONDS = "unix-seconds"
    UNIX_MILLISECONDS = "unix-milliseconds"
    COMPACT_DATE = "compact-date"
    SPREADSHEET_DAYS = "spreadsheet-days"


_VALID_FORMS: Mapping[TimestampFormat, str] = {
    TimestampFormat.AUTO: "Unix seconds of ten digits, a date like 2026-03-01 or a datetime like 2026-03-01T10:00Z",
    TimestampFormat.UNIX_SECONDS: "a number of Unix seconds",
    TimestampFormat.UNIX_MILLISECONDS: "a number of Unix milliseconds",
    TimestampFormat.COMPACT_DATE: "yyyyMMdd, yyyyMMddHHmm or yyyyMMddHHmmss",
    TimestampFormat.SPREADSHEET_DAYS: "a spreadsheet's day number from 61 (1900-03-01) up",
}
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_PLAUSIBLE_SECONDS = re.compile(r"[1-9][0-9]{9}(?:\.[0-9]{1,18})?")
_COMPACT_DATE = re.compile(r"([0-9]{8,14})(?:\.0+)?")  # programs write a column with empty cells as 20260301.0
_COMPACT_PATTERNS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_FIRST_SPREADSHEET_DAY = datetime(1899, 12, 30, tzinfo=UTC)
_MIN_SPREADSHEET_DAYS = 61  # below, spreadsheets count a 29 February 1900
_LIKELY_SPREADSHEET_DAYS = range(20_000, 80_000)  # 1954 to 2119
_LIKELY_MILLISECONDS = range(10**12, 10**13)  # 2001 to 2286
_LIKELY_YEARS = range(1900, 2200)


def parse_timestamp(cell: object, column: str, timestamp_format: TimestampFormat = TimestampFormat.AUTO) -> datetime:
    """Return the time of a cell; in UTC if it has no offset. Digits beyond microseconds are truncated.

    Raises InvalidTimestamp, which names `column` and the format that fits, if the cell is of another format.
    Source: Stripe's import accepts yyyy-MM-dd, yyyy-MM-dd'T'HH:mm:ssZ and epoch seconds.
    """
    valid_forms = _VALID_FORMS[timestamp_format]
    if cell is None or cell == "":
        raise InvalidTimestamp(f"The column {column!r} has no timestamp; give {valid_forms}.", field=column, value=cell)
    problem, hint = f"must be {valid_forms}", ""
    if isinstance(cell, str):
        try:
            return _PARSERS[timestamp_format](cell)
        except OverflowError:
            problem = "is out of range"
        except ValueError:
            if timestamp_format is TimestampFormat.AUTO and _NUMBER.fullmatch(cell):
                hint = _number_hint(cell)
    raise InvalidTimestamp(f"{column!r} {problem}, not {abbreviated_repr(cell)}.{hint}", field=column, value=cell)


def _parse_auto(text: str) -> datetime:
    if _PLAUSIBLE_SECONDS.fullmatch(text):
        return EPOCH + timedelta(seconds=int(text)) if "." not in text else _parse_seconds(text)
    if _NUMBER.fullmatch(text):
        raise ValueError(text)
    return _parse_iso(text)


def _parse_iso(text: str) -> datetime:
    at = parse_iso(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _parse_seconds(text: str) -> datetime:
    return EPOCH + _to_integer(_parse_number(text), 6) * MICROSECOND


def _parse_milliseconds(text: str) -> datetime:
    return EPOCH + _to_integer(_parse_number(text), 3) * MICROSECOND


def _parse_compact_date(text: str) -> datetime:
    match = _COMPACT_DATE.fullmatch(text)
    if match is None or len(match[1]) not in _COMPACT_PATTERNS:
        raise ValueError(text)
    return datetime.strptime(match[1], _COMPACT_PATTERNS[len(match[1])]).replace(tzinfo=UTC)


def _parse_spreadsheet_days(text: str) -> datetime:
    days = _parse_number(text)
    if days < _MIN_SPREADSHEET_DAYS:
        raise ValueError(text)
    milliseconds = _to_integer(EXACT_CONTEXT.multiply(days, Decimal(86_400)), 3, ROUND_HALF_EVEN)
    return _FIRST_SPREADSHEET_DAY + timedelta(milliseconds=milliseconds)


def _parse_number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return Decimal(text)


def _to_integer(number: Decimal, power_of_ten: int, rounding: str = ROUND_DOWN) -> int:
    return int(EXACT_CONTEXT.scaleb(number, power_of_ten).to_integral_value(rounding))


def _number_hint(text: str) -> str:
    """Return a sentence that names the format that a number is probably in."""
    whole = int(text.partition(".")[0])
    if whole in _LIKELY_MILLISECONDS:
        kind, timestamp_format = "milliseconds", TimestampFormat.UNIX_MILLISECONDS
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


_PARSERS: Mapping[TimestampFormat, Callable[[str], datetime]] = {
    TimestampFormat.AUTO: _parse_auto,
    TimestampFormat.UNIX_SECONDS: _parse_seconds,
    TimestampFormat.UNIX_MILLISECONDS: _parse_milliseconds,
    TimestampFormat.COMPACT_DATE: _parse_compact_date,
    TimestampFormat.SPREADSHEET_DAYS: _parse_spreadsheet_days,
}
