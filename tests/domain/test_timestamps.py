"""Dates and datetimes in ISO text: which forms are read, and that no part is taken for another."""

from datetime import datetime, timedelta, timezone

import pytest
from tallybook.domain.timestamps import parse_iso

MIDNIGHT, TEN = datetime(2026, 3, 1), datetime(2026, 3, 1, 10)
READ = {
    "2026-03-01": MIDNIGHT,
    "20260301": MIDNIGHT,
    "2026-03-01T10:00": TEN,
    "2026-03-01t10:00:00": TEN,
    "2026-03-01 10:00:00": TEN,
    "20260301T1000": TEN,
    "20260301T100000": TEN,
    "2026-03-01T10:00:00.5": TEN.replace(microsecond=500_000),
    "2026-03-01 10:00:00,123": TEN.replace(microsecond=123_000),
    "2026-03-01T10:00:00.123456789": TEN.replace(microsecond=123_456),
}
OFFSETS = {
    "Z": timedelta(0),
    "+00:00": timedelta(0),
    "-00:00": timedelta(0),
    "+02:00": timedelta(hours=2),
    "-0530": -timedelta(hours=5, minutes=30),
    "+02": timedelta(hours=2),
    "+00:53:28": timedelta(minutes=53, seconds=28),
}
REJECTED = (
    "2026-03-01+02:00", "2026-03-01-05:00", "2026-03-01+10", "2026-03-01Z", "2026-03-01/2026", "2026-03-01x10:00",
    "2026-03-01\t10:00", "2026-03-01\u066110:00", "2026-03-01T", "2026-03-01T10", "2026-03-01T10Z", "2026-03-01T1000",
    "20260301T10:00", "20260301T10", "2026-03-01T10:00:00.", "2026-03-01T10:00:00 02:00", "2026-03-01T10:00 AM",
    "2026-03-01T10:00:00 +02:00", "2026-03-01T10:00+2:00", "2026-03-01T10:00+02:99", "2026-03-01T10:00+25:00",
    "2026-W10", "2026-W10-1", "2026W101", "2026-060", "2026-03", "2026", "2026-02-30", "2026-03-01T25:00",
    " 2026-03-01", "2026-03-01\n", "2026-03-01T10:00Z\n", "\uff12026-03-01", "03/04/2026", "", "noon",
    "2026-10-25T02:30:00[Europe/Berlin]", "2026-10-25T02:30 CET",
)  # fmt: skip


@pytest.mark.parametrize("text", READ)
def test_a_date_or_a_datetime_without_an_offset_is_naive(text: str) -> None:
    """With or without separators, seconds and fraction. A date is its midnight."""
    assert parse_iso(text) == READ[text]


@pytest.mark.parametrize("text", OFFSETS)
def test_a_datetime_has_the_offset_that_is_written(text: str) -> None:
    """Hours, minutes and, as of old local times, seconds."""
    assert parse_iso(f"2026-03-01T10:00:00{text}") == TEN.replace(tzinfo=timezone(OFFSETS[text]))
    assert parse_iso(f"2026-03-01 10:00{text}").utcoffset() == OFFSETS[text]


@pytest.mark.parametrize("text", REJECTED)
def test_other_text_is_no_time(text: str) -> None:
    """Python reads many of these: the offset of a date as a time of day, and any character as the separator."""
    with pytest.raises(ValueError, match=r".*"):
        parse_iso(text)
