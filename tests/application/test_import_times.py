"""Timestamps in usage files."""

import re
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tallybook.application.usage_import.date_patterns import DatePattern
from tallybook.application.usage_import.timestamps import TimestampFormat, TimestampReader, UnclearTimestamp
from tallybook.domain.errors import InvalidParameter, InvalidTimestamp


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


@pytest.mark.parametrize(
    ("written", "date_format", "read"),
    [
        ("01.03.2026", "DD.MM.YYYY", datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("1.3.2026 9:05", "DD.MM.YYYY HH:mm", datetime(2026, 3, 1, 8, 5, tzinfo=UTC)),
        ("03/01/26", "MM/DD/YY", datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("03/01/2026 12:05:07 AM", "MM/DD/YYYY hh:mm:ss A", datetime(2026, 2, 28, 23, 5, 7, tzinfo=UTC)),
        ("2026/03/01 09:05:07.5", "YYYY/MM/DD HH:mm:ss.SSS", datetime(2026, 3, 1, 8, 5, 7, 500000, tzinfo=UTC)),
        ("01-Mar-2026", "DD-MMM-YYYY", datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("01.03.2026 09:05 +0000", "DD.MM.YYYY HH:mm Z", datetime(2026, 3, 1, 9, 5, tzinfo=UTC)),
        ("01.07.2026", "%d.%m.%Y", datetime(2026, 6, 30, 22, tzinfo=UTC)),
    ],
)
def test_a_date_is_read_in_the_form_that_is_named(written: str, date_format: str, read: datetime) -> None:
    """Dates and local times are those of the timezone."""
    berlin = ZoneInfo("Europe/Berlin")
    assert parse_timestamp(written, "day", date_format=date_format, timezone=berlin) == read


@pytest.mark.parametrize(
    ("written", "forms"),
    [
        ("03/04/2026", ["DD/MM/YYYY", "MM/DD/YYYY"]),
        ("13/04/2026", ["DD/MM/YYYY"]),
        ("04/13/2026", ["MM/DD/YYYY"]),
        ("03.04.26 9:05", ["DD.MM.YY HH:mm", "MM.DD.YY HH:mm"]),
        ("3/4/2026 1:30:00 PM", ["DD/MM/YYYY hh:mm:ss A", "MM/DD/YYYY hh:mm:ss A"]),
        ("2026/03/04", ["YYYY/MM/DD"]),
    ],
)
def test_a_date_that_is_not_iso_is_rejected_with_its_likely_forms(written: str, forms: list[str]) -> None:
    """Each of them reads the date."""
    with pytest.raises(UnclearTimestamp) as exc_info:
        parse_timestamp(written, "day")
    assert re.findall(r"date_format='([^']+)'", exc_info.value.message) == forms
    assert all(parse_timestamp(written, "day", date_format=form, timezone=ZoneInfo("UTC")) for form in forms)


@pytest.mark.parametrize(
    "written", ["2026-03-01 12:00", "2026-03-01T12:00:00.5", "20260301T1200", datetime(2026, 3, 1, 12)]
)
def test_a_local_time_needs_its_timezone(written: object) -> None:
    """It is not taken for UTC. A date alone is its midnight in UTC, as in Stripe's import."""
    with pytest.raises(UnclearTimestamp, match="timezone='Europe/Berlin'"):
        parse_timestamp(written, "at")
    assert parse_timestamp(written, "at", timezone=ZoneInfo("Europe/Berlin")).hour == 11
    assert parse_timestamp(date(2026, 3, 1), "at") == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date_format", "problem"),
    [
        ("DD.MM", "must have a year, a month and a day"),
        ("DD.MM.YYYY DD", "it has a part twice"),
        ("%d.%m.%Y %Q", "'Q' is a bad directive"),
        ("%d.%m.%Y%", "stray %"),
    ],
)
def test_a_form_that_no_date_has_is_rejected(date_format: str, problem: str) -> None:
    """Before any row is read."""
    with pytest.raises(InvalidParameter, match=problem) as exc_info:
        DatePattern(date_format)
    assert exc_info.value.field == "date_format"
