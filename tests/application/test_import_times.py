"""Timestamps in usage files."""

from datetime import UTC, datetime

import pytest
from tallybook.application.usage_import.columns import parse_timestamp
from tallybook.domain.errors import InvalidTimestamp


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1700158623", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("1700158623.9799609", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        ("0", datetime(1970, 1, 1, tzinfo=UTC)),
        ("-0.5", datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC)),
        ("-1.25", datetime(1969, 12, 31, 23, 59, 58, 750000, tzinfo=UTC)),
        ("20231116", datetime(1970, 8, 23, 3, 45, 16, tzinfo=UTC)),
        ("2023-11-16", datetime(2023, 11, 16, tzinfo=UTC)),
        ("2023-11-16T18:17:03Z", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16T18:17:03", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16T18:17:03+01:00", datetime(2023, 11, 16, 17, 17, 3, tzinfo=UTC)),
        ("2023-11-16 18:17:03.9799600", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        ("2023-11-16 18:17:03.9799609Z", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_it_is_written(written: str, read: datetime) -> None:
    """Unix seconds, dates and datetimes; in UTC without an offset, truncated to microseconds."""
    assert parse_timestamp(written, "timestamp") == read


@pytest.mark.parametrize(
    "written",
    [None, "", " ", "noon", "1e9", "1700158623000", "16.11.2023", "2023-02-30", "0001-01-01T00:00+14:00", True, [1]],
)
def test_an_invalid_time_is_rejected_with_its_column(written: object) -> None:
    """Milliseconds are out of range as seconds, and the message says so."""
    with pytest.raises(InvalidTimestamp) as exc_info:
        parse_timestamp(written, "TIMESTAMP")
    assert exc_info.value.field == "TIMESTAMP"
    assert ("milliseconds" in exc_info.value.message) == (written in ("1700158623000", "0001-01-01T00:00+14:00"))
