"""Summaries: a total for each calendar window in any timezone with counted usage."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from tallybook.application import AcceptancePolicy, Metering

from ..notation import Ledger


def test_windows_without_usage_are_left_out(ledger: Ledger) -> None:
    """Only the hours with counted usage are returned, in order."""
    ledger.given("""
        meter  calls  sum
        13:00  acme calls 4
        10:05  acme calls 1
        10:59  acme calls 2
        11:30  acme calls 9  id=x
        12:30  beta calls 9
        cancel x
    """)
    assert ledger.summaries("acme calls by hour in UTC", "00:00 11T00:00") == [
        "11-10 10:00+0000 to 11-10 11:00+0000: 3",
        "11-10 13:00+0000 to 11-10 14:00+0000: 4",
    ]


def test_a_window_with_a_zero_total_is_returned(ledger: Ledger) -> None:
    """A window is omitted if it has no usage, not if its total is 0."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls  1
        10:06  acme calls -1
    """)
    assert ledger.summaries("acme calls by hour in UTC", "00:00 11T00:00") == [
        "11-10 10:00+0000 to 11-10 11:00+0000: 0"
    ]


def test_the_first_and_last_window_are_clipped_to_the_range(ledger: Ledger) -> None:
    """Windows cover exactly the range: their totals add up to the total of the range."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 1
        10:45  acme calls 2
        11:15  acme calls 4
        11:45  acme calls 8
    """)
    assert ledger.summaries("acme calls by hour in UTC", "10:30 11:30") == [
        "11-10 10:30+0000 to 11-10 11:00+0000: 2",
        "11-10 11:00+0000 to 11-10 11:30+0000: 4",
    ]
    ledger.then(total="acme calls 6", between="10:30 11:30")


def test_minutes(ledger: Ledger) -> None:
    """A minute is the shortest window; it starts at its first microsecond."""
    ledger.given("""
        meter            calls  sum
        10:05:00         acme calls 1
        10:05:59.999999  acme calls 2
        10:06:00         acme calls 4
    """)
    assert ledger.summaries("* calls by minute in UTC", "10:00 11:00") == [
        "11-10 10:05+0000 to 11-10 10:06+0000: 3",
        "11-10 10:06+0000 to 11-10 10:07+0000: 4",
    ]


def test_a_day_of_23_hours(ledger: Ledger) -> None:
    """In Berlin, 29 March 2026 has 23 hours: usage at 22:30 UTC is on the next day."""
    ledger.given("""
        meter             calls  sum
        2026-03-28T22:59  acme calls 1
        2026-03-28T23:00  acme calls 2
        2026-03-29T21:59  acme calls 4
        2026-03-29T22:00  acme calls 8
    """)
    assert ledger.summaries("acme calls by day in Europe/Berlin", "2026-03-27T23:00 2026-03-30T22:00") == [
        "03-28 00:00+0100 to 03-29 00:00+0100: 1",
        "03-29 00:00+0100 to 03-30 00:00+0200: 6",
        "03-30 00:00+0200 to 03-31 00:00+0200: 8",
    ]


def test_a_day_of_25_hours(ledger: Ledger) -> None:
    """In New York, 1 November 2026 has two hours from 1 to 2, each with its own window."""
    ledger.given("""
        meter     calls  sum
        01T05:30  acme calls 1
        01T06:30  acme calls 2
        02T04:30  acme calls 4
        02T05:00  acme calls 8
    """)
    assert ledger.summaries("acme calls by day in America/New_York", "01T04:00 03T05:00") == [
        "11-01 00:00-0400 to 11-02 00:00-0500: 7",
        "11-02 00:00-0500 to 11-03 00:00-0500: 8",
    ]
    assert ledger.summaries("acme calls by hour in America/New_York", "01T04:00 01T08:00") == [
        "11-01 01:00-0400 to 11-01 01:00-0500: 1",
        "11-01 01:00-0500 to 11-01 02:00-0500: 2",
    ]


def test_months_of_a_timezone(ledger: Ledger) -> None:
    """A month starts at local midnight: the last hours of October in UTC are November in Tokyo."""
    ledger.given("""
        meter             calls  sum
        2026-10-31T14:59  acme calls 1
        2026-10-31T15:00  acme calls 2
        2026-11-30T14:59  acme calls 4
        2026-11-30T15:00  acme calls 8
    """)
    assert ledger.summaries("acme calls by month in Asia/Tokyo", "2026-09-30T15:00 2026-12-31T15:00") == [
        "10-01 00:00+0900 to 11-01 00:00+0900: 1",
        "11-01 00:00+0900 to 12-01 00:00+0900: 6",
        "12-01 00:00+0900 to 01-01 00:00+0900: 8",
    ]


def test_hours_of_a_timezone_that_is_a_quarter_off(ledger: Ledger) -> None:
    """Hours in Kathmandu start at a quarter past the UTC hour, within the stored hour buckets."""
    ledger.given("""
        meter  calls  sum
        10:14  acme calls 1
        10:15  acme calls 2
        11:14  acme calls 4
    """)
    assert ledger.summaries("acme calls by hour in Asia/Kathmandu", "00:00 11T00:00") == [
        "11-10 15:00+0545 to 11-10 16:00+0545: 1",
        "11-10 16:00+0545 to 11-10 17:00+0545: 6",
    ]


def test_windows_of_the_meter_stay_in_utc(ledger: Ledger) -> None:
    """Superseding uses UTC hours for any calendar; each is in the window of the calendar in which it starts."""
    ledger.given("""
        meter  seats  sum  per hour
        10:10  acme seats 1
        10:20  acme seats 2
        11:10  acme seats 4
    """)
    assert ledger.summaries("acme seats by hour in Asia/Kathmandu", "00:00 11T00:00") == [
        "11-10 15:00+0545 to 11-10 16:00+0545: 2",
        "11-10 16:00+0545 to 11-10 17:00+0545: 4",
    ]


def test_last_of_each_window(ledger: Ledger) -> None:
    """Each window has its own total, by the meter's formula."""
    ledger.given("""
        meter     seats  last
        10:05     acme seats 10
        23:00     acme seats  4
        11T00:00  acme seats  7
    """)
    assert ledger.summaries("acme seats by day in UTC", "10T00:00 12T00:00") == [
        "11-10 00:00+0000 to 11-11 00:00+0000: 4",
        "11-11 00:00+0000 to 11-12 00:00+0000: 7",
    ]


def test_a_long_range_over_little_usage(ledger: Ledger) -> None:
    """Windows are computed from usage, so the minutes of a thousand years are returned quickly."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 1
    """)
    summaries = ledger.summaries("acme calls by minute in UTC", "2001-01-01T00:00 2999-01-01T00:00")
    assert summaries == ["11-10 10:05+0000 to 11-10 10:06+0000: 1"]


@pytest.mark.parametrize("window", ["hour", "month"])
@pytest.mark.parametrize("timezone_name", ["UTC", "Pacific/Apia"])
@pytest.mark.parametrize("offset_hours", [0, 11])
def test_all_of_time(ledger: Ledger, window: str, timezone_name: str, offset_hours: int) -> None:
    """A range may start at the smallest and end at the largest datetime, in any timezone."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 1
    """)
    first = datetime.min.replace(tzinfo=timezone(timedelta(hours=offset_hours)))
    last = datetime.max.replace(tzinfo=timezone(-timedelta(hours=offset_hours)))
    (only,) = ledger.metering.summaries("calls", "acme", first, last, window=window, timezone=timezone_name)
    assert only.count == 1


@pytest.mark.parametrize("window", ["hour", "month"])
@pytest.mark.parametrize("timezone_name", ["UTC", "Pacific/Apia"])
@pytest.mark.parametrize("at", [datetime.min, datetime.max], ids=["first", "last"])
def test_a_meter_event_at_an_end_of_time(window: str, timezone_name: str, at: datetime) -> None:
    """If the policy accepts usage on the first or last day of a datetime, its window is cut to that limit."""
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None, max_ahead=None)) as metering:
        metering.meters.configure("calls")
        metering.record("calls", {"stripe_customer_id": "acme", "value": "1"}, timestamp=at.replace(tzinfo=UTC))
        start, end = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        summaries = metering.summaries("calls", "acme", start, end, window=window, timezone=timezone_name)
        assert [summary.count for summary in summaries] == ([1] if at == datetime.min else [])  # the end is exclusive


@pytest.mark.parametrize("window", ["hour", "day", "month", "year"])
def test_usage_in_an_hour_that_comes_again_over_midnight(window: str) -> None:
    """Summaries add up to the total even if a day starts twice."""
    at = datetime(2008, 11, 2, 3, 5, tzinfo=UTC)
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure("calls")
        metering.record("calls", {"stripe_customer_id": "acme", "value": "1"}, timestamp=at)
        time_range = at - timedelta(minutes=5), at + timedelta(minutes=5)
        (only,) = metering.summaries("calls", "acme", *time_range, window=window, timezone="America/St_Johns")
    assert (only.count, only.start >= time_range[0], only.end <= time_range[1]) == (1, True, True)
