"""Timestamps in usage files."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tallybook.application.usage_import.timestamps import TimestampFormat, TimestampReader
from tallybook.domain.errors import InvalidTimestamp


def parse_timestamp(written: object, column: str, timestamp_format: str = "auto", **options: Any) -> datetime:
    return TimestampReader(TimestampFormat(timestamp_format), **options).read(written, column)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1700158623", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("1700158623.9799609", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        ("1000000000", datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
        ("9999999999", datetime(2286, 11, 20, 17, 46, 39, tzinfo=UTC)),
        ("20231116T181703Z", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16", datetime(2023, 11, 16, tzinfo=UTC)),
        ("2023-11-16T18:17:03Z", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16T18:17:03+01:00", datetime(2023, 11, 16, 17, 17, 3, tzinfo=UTC)),
        ("2023-11-16 18:17:03.9799600+00:00", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        ("2023-11-16 18:17:03.9799609Z", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_it_is_written(written: str, read: datetime) -> None:
    """Unix seconds, dates (their midnight in UTC) and datetimes with an offset, truncated to microseconds."""
    assert parse_timestamp(written, "timestamp") == read


@pytest.mark.parametrize(
    ("written", "timestamp_format", "read"),
    [
        ("0", "unix-seconds", datetime(1970, 1, 1, tzinfo=UTC)),
        ("-0.5", "unix-seconds", datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC)),
        ("-1.25", "unix-seconds", datetime(1969, 12, 31, 23, 59, 58, 750000, tzinfo=UTC)),
        ("20231116", "unix-seconds", datetime(1970, 8, 23, 3, 45, 16, tzinfo=UTC)),
        ("1700158623979", "unix-milliseconds", datetime(2023, 11, 16, 18, 17, 3, 979000, tzinfo=UTC)),
        ("1700158623979.9609", "unix-milliseconds", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        ("1700158623979960", "unix-microseconds", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        ("20231116", "compact-date", datetime(2023, 11, 16, tzinfo=UTC)),
        ("20231116.0", "compact-date", datetime(2023, 11, 16, tzinfo=UTC)),
        ("202311161817", "compact-date", datetime(2023, 11, 16, 18, 17, tzinfo=UTC)),
        ("20231116181703", "compact-date", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("46082", "spreadsheet-days", datetime(2026, 3, 1, tzinfo=UTC)),
        ("46082.5", "spreadsheet-days", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("46082.520833333336", "spreadsheet-days", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("61", "spreadsheet-days", datetime(1900, 3, 1, tzinfo=UTC)),
    ],
)
def test_other_numbers_are_read_in_an_explicit_format(written: str, timestamp_format: str, read: datetime) -> None:
    """A fraction of a spreadsheet's day is a binary float, so it is rounded to milliseconds."""
    assert parse_timestamp(written, "timestamp", timestamp_format, timezone=ZoneInfo("UTC")) == read


@pytest.mark.parametrize(
    ("written", "timestamp_format"),
    [
        ("20260301", "compact-date"),
        ("20260301123000", "compact-date"),
        ("202603011230", "compact-date"),
        ("46082", "spreadsheet-days"),
        ("46082.5", "spreadsheet-days"),
        ("1700158623000", "unix-milliseconds"),
        ("0", "unix-seconds"),
        ("-1", "unix-seconds"),
        ("999999999", "unix-seconds"),
        ("12345678901", "unix-seconds"),
        ("20261301", "unix-seconds"),
        ("01032026", "unix-seconds"),
        ("202603", "unix-seconds"),
        ("1700158623979960", "unix-microseconds"),
        ("0000000123", "unix-seconds"),
    ],
)
def test_a_number_that_may_be_no_unix_time_is_rejected_with_the_format_that_fits(
    written: str, timestamp_format: str
) -> None:
    """Compact dates and spreadsheet's day numbers would be times in 1970."""
    with pytest.raises(InvalidTimestamp) as exc_info:
        parse_timestamp(written, "day")
    assert f"timestamp_format='{timestamp_format}'" in exc_info.value.message


@pytest.mark.parametrize(
    ("written", "timestamp_format"),
    [
        ("2026-03-01", "unix-seconds"),
        ("2026-03-01", "compact-date"),
        ("2026031", "compact-date"),
        ("20260301.5", "compact-date"),
        ("20260230", "compact-date"),
        ("\uff12\uff10\uff12\uff16\uff10\uff13\uff10\uff11", "compact-date"),
        ("60.5", "spreadsheet-days"),
        ("999999999999999", "spreadsheet-days"),
        ("999999999999999999", "unix-milliseconds"),
        ("999999999999", "unix-seconds"),
    ],
)
def test_an_explicit_format_accepts_no_other(written: str, timestamp_format: str) -> None:
    """Nor times after the year 9999, nor days before 1900-03-01, which spreadsheets number differently."""
    with pytest.raises(InvalidTimestamp):
        parse_timestamp(written, "day", timestamp_format)


@pytest.mark.parametrize(
    "written",
    [
        None, "", " ", "noon", "1e9", "1700158623000", "16.11.2023", "2023-11-16+02:00", "2023-02-30",
        "0001-01-01T00:00+14:00", True, [1],
    ],
)  # fmt: skip
def test_an_invalid_time_is_rejected_with_its_column(written: object) -> None:
    """Milliseconds are no seconds, and the message says so."""
    with pytest.raises(InvalidTimestamp) as exc_info:
        parse_timestamp(written, "TIMESTAMP")
    assert exc_info.value.field == "TIMESTAMP"
    assert ("milliseconds" in exc_info.value.message) == (written == "1700158623000")
