"""Billing cycles: a customer's periods have no gaps or overlaps, even if the customer changes timezone."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain import BillingCycle, TallybookError
from tallybook.domain.calendar import timezone_names

ANCHOR = "2026-01-17T10:32+01:00"
MICROSECOND = timedelta(microseconds=1)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def format_bounds(bounds: tuple[datetime, datetime]) -> tuple[str, str]:
    start, end = (f"{bound:%Y-%m-%dT%H:%MZ}" for bound in bounds)
    return start, end


@pytest.mark.parametrize(
    ("interval", "timezone", "at", "start", "end"),
    [
        ("year", "UTC", "2023-08-08T09:30Z", "2023-01-01T00:00Z", "2024-01-01T00:00Z"),
        ("year", "America/Los_Angeles", "2023-08-08T09:30Z", "2023-01-01T08:00Z", "2024-01-01T08:00Z"),
        ("month", "UTC", "2026-02-28T23:59Z", "2026-02-01T00:00Z", "2026-03-01T00:00Z"),
        ("month", "Europe/Berlin", "2026-03-01T00:00+01:00", "2026-02-28T23:00Z", "2026-03-31T22:00Z"),
        ("day", "Europe/Berlin", "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
    ],
)
def test_without_an_anchor_periods_are_the_calendar_s(
    interval: str, timezone: str, at: str, start: str, end: str
) -> None:
    """From local midnight to local midnight, in UTC."""
    assert format_bounds(BillingCycle(interval, timezone).period_containing(moment(at))) == (start, end)


def test_a_cycle_defaults_to_the_calendar_month_in_utc() -> None:
    """The defaults."""
    assert BillingCycle() == BillingCycle("month", "UTC", None)


@pytest.mark.parametrize(
    ("interval", "timezone", "anchor", "start", "expected_ends"),
    [
        # on the 17th at 10:32, while clocks change on the 29th of March
        ("month", "Europe/Berlin", ANCHOR, "2026-02-17T09:32Z", ["2026-03-17T09:32Z", "2026-04-17T08:32Z"]),
        ("month", "UTC", ANCHOR, "2026-02-17T09:32Z", ["2026-03-17T09:32Z", "2026-04-17T09:32Z"]),
        # the 31st
        ("month", "UTC", "2026-01-31T00:00Z", "2026-01-31T00:00Z", ["2026-02-28T00:00Z", "2026-03-31T00:00Z"]),
        ("month", "UTC", "2023-12-31T06:00Z", "2024-01-31T06:00Z", ["2024-02-29T06:00Z", "2024-03-31T06:00Z"]),
        ("month", "UTC", "2026-03-31T06:00Z", "2026-03-31T06:00Z", ["2026-04-30T06:00Z", "2026-05-31T06:00Z"]),
        # the 31st in Auckland is the 30th in UTC
        ("month", "Pacific/Auckland", "2026-01-30T11:00Z", "2026-01-30T11:00Z", ["2026-02-27T11:00Z"]),
        # the 29th of February
        ("year", "UTC", "2024-02-29T10:32Z", "2024-02-29T10:32Z", ["2025-02-28T10:32Z", "2026-02-28T10:32Z"]),
        ("year", "UTC", "2024-02-29T10:32Z", "2027-02-28T10:32Z", ["2028-02-29T10:32Z", "2029-02-28T10:32Z"]),
        ("year", "Asia/Tokyo", "2026-07-01T00:00+09:00", "2026-06-30T15:00Z", ["2027-06-30T15:00Z"]),
        # before the anchor
        ("month", "UTC", "2026-01-31T00:00Z", "2025-11-30T00:00Z", ["2025-12-31T00:00Z", "2026-01-31T00:00Z"]),
        # at a time that is skipped on the 29th of March and repeated on the 25th of October
        ("day", "Europe/Berlin", "2026-01-01T02:30+01:00", "2026-03-28T01:30Z",
         ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
        ("day", "Europe/Berlin", "2026-01-01T02:30+01:00", "2026-10-24T00:30Z",
         ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        # on a day that the timezone skips
        ("day", "Pacific/Apia", "2011-12-01T12:00-10:00", "2011-12-29T22:00Z",
         ["2011-12-30T10:00Z", "2011-12-30T22:00Z"]),
        ("month", "Pacific/Apia", "2011-11-30T12:00-10:00", "2011-11-30T22:00Z",
         ["2011-12-30T10:00Z", "2012-01-29T22:00Z"]),
    ],
)  # fmt: skip
def test_with_an_anchor_periods_start_at_its_local_time(
    interval: str, timezone: str, anchor: str, start: str, expected_ends: list[str]
) -> None:
    """On its day of each month, or that month's last; of each year; of every day."""
    cycle = BillingCycle(interval, timezone, moment(anchor))
    since = moment(start)
    for end in expected_ends:
        assert format_bounds(cycle.period_containing(since)) == (start, end)
        assert cycle.next_period(since) == cycle.period_containing(since)
        since, start = moment(end), end


@pytest.mark.parametrize(
    ("cycle", "end", "following"),
    [
        # the cycle goes on
        (BillingCycle("month", "UTC"), "2022-02-01T00:00Z", "2022-03-01T00:00Z"),
        # the customer changes timezone on the 1st: the month that ended is not billed again
        (BillingCycle("month", "America/Los_Angeles"), "2022-01-31T15:00Z", "2022-03-01T08:00Z"),
        (BillingCycle("month", "Asia/Tokyo"), "2022-02-01T08:00Z", "2022-02-28T15:00Z"),
        (BillingCycle("month", "Pacific/Niue"), "2022-01-31T10:00Z", "2022-03-01T11:00Z"),
        (BillingCycle("year", "America/Los_Angeles"), "2021-12-31T15:00Z", "2023-01-01T08:00Z"),
        # a boundary within 26 hours is skipped
        (BillingCycle("month", "UTC"), "2022-01-30T22:00Z", "2022-03-01T00:00Z"),
        (BillingCycle("month", "UTC"), "2022-01-30T21:59Z", "2022-02-01T00:00Z"),
        # of days, less than half of one
        (BillingCycle("day", "America/Los_Angeles"), "2022-01-31T15:00Z", "2022-02-01T08:00Z"),
        (BillingCycle("day", "Asia/Tokyo"), "2022-02-01T08:00Z", "2022-02-02T15:00Z"),
        (BillingCycle("day", "UTC"), "2022-01-31T12:00Z", "2022-02-01T00:00Z"),
        (BillingCycle("day", "UTC"), "2022-01-31T12:01Z", "2022-02-02T00:00Z"),
        # from the calendar to an anchor, and from months to years
        (BillingCycle("month", "UTC", moment("2022-01-17T10:32Z")), "2022-02-01T00:00Z", "2022-02-17T10:32Z"),
        (BillingCycle("year", "UTC"), "2022-02-01T00:00Z", "2023-01-01T00:00Z"),
    ],
)
def test_the_next_period_starts_at_the_end_of_the_last(cycle: BillingCycle, end: str, following: str) -> None:
    """It ends at the next boundary of the cycle, unless that is the same boundary in another timezone."""
    assert format_bounds(cycle.next_period(moment(end))) == (end, following)


def test_the_periods_of_a_range() -> None:
    """They cover the range; the first and last are cut to it."""
    cycle = BillingCycle("month", "Europe/Berlin", moment(ANCHOR))
    assert [
        format_bounds(bounds) for bounds in cycle.periods(moment("2026-03-01T00:00Z"), moment("2026-05-01T00:00Z"))
    ] == [
        ("2026-03-01T00:00Z", "2026-03-17T09:32Z"),
        ("2026-03-17T09:32Z", "2026-04-17T08:32Z"),
        ("2026-04-17T08:32Z", "2026-05-01T00:00Z"),
    ]
    assert list(cycle.periods(moment(ANCHOR), moment(ANCHOR))) == []


def test_the_ends_of_time() -> None:
    """Periods are cut to the limits of a datetime; none starts at the largest datetime."""
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for interval in ("day", "month", "year"):
        for timezone in ("Asia/Tokyo", "America/Los_Angeles"):
            cycle = BillingCycle(interval, timezone, moment(ANCHOR))
            assert cycle.period_containing(first)[0] == first
            start, end = cycle.period_containing(last - MICROSECOND)
            assert (end, cycle.next_period(start)) == (last, (start, last))


NAIVE = datetime(2026, 1, 17, 10, 32)


@pytest.mark.parametrize(
    ("code", "field", "arguments"),
    [
        ("parameter_invalid", "interval", {"interval": "hour"}),
        ("parameter_invalid", "interval", {"interval": "minute"}),
        ("parameter_invalid", "interval", {"interval": "week"}),
        ("parameter_invalid", "interval", {"interval": None}),
        ("parameter_invalid", "interval", {"interval": ["month"]}),
        ("unknown_timezone", "timezone", {"timezone": "Mars/Olympus"}),
        ("unknown_timezone", "timezone", {"timezone": None}),
        ("invalid_timestamp", "anchor", {"anchor": NAIVE}),
        ("invalid_timestamp", "anchor", {"anchor": "2026-01-17"}),
        (
            "invalid_timestamp", "anchor",
            {"anchor": datetime.min.replace(tzinfo=UTC), "timezone": "America/Los_Angeles"},
        ),
    ],
)  # fmt: skip
def test_invalid_cycles(code: str, field: str, arguments: dict[str, Any]) -> None:
    """Creating the cycle raises an error with the field."""
    with pytest.raises(TallybookError) as exc_info:
        BillingCycle(**arguments)
    assert (exc_info.value.code, exc_info.value.field) == (code, field)


Call = Callable[[BillingCycle], object]
INVALID_TIMESTAMPS: list[tuple[str, str, Call]] = [
    ("invalid_timestamp", "at", lambda cycle: cycle.period_containing(NAIVE)),
    ("invalid_timestamp", "at", lambda cycle: cycle.period_containing(datetime.max.replace(tzinfo=UTC))),
    ("invalid_timestamp", "end", lambda cycle: cycle.next_period(NAIVE)),
    ("invalid_timestamp", "end", lambda cycle: cycle.next_period(datetime.max.replace(tzinfo=UTC))),
    ("invalid_time_range", "start", lambda cycle: cycle.periods(NAIVE, moment(ANCHOR))),
    ("invalid_time_range", "end", lambda cycle: cycle.periods(moment(ANCHOR), NAIVE)),
    ("invalid_time_range", "start", lambda cycle: cycle.periods(moment(ANCHOR), moment(ANCHOR) - MICROSECOND)),
]


@pytest.mark.parametrize(("code", "field", "call"), INVALID_TIMESTAMPS)
def test_invalid_timestamps(code: str, field: str, call: Call) -> None:
    """An invalid datetime raises an error with its field, an invalid range when it is iterated."""
    with pytest.raises(TallybookError) as exc_info:
        call(BillingCycle())
    assert (exc_info.value.code, exc_info.value.field) == (code, field)


def timestamps(first: int, last: int) -> st.SearchStrategy[datetime]:
    return st.datetimes(datetime(first, 1, 1), datetime(last, 12, 31), timezones=st.just(UTC))


CYCLES = st.builds(
    BillingCycle,
    st.sampled_from(["day", "month", "year"]),
    st.sampled_from(sorted(timezone_names())),
    st.none() | timestamps(1900, 2100),
)
ANY_TIMESTAMP = timestamps(1, 9999) | timestamps(1900, 2100)


@given(CYCLES, ANY_TIMESTAMP)
def test_a_period_contains_its_timestamp(cycle: BillingCycle, at: datetime) -> None:
    """It is also the period around its own start, and around its last microsecond."""
    start, end = cycle.period_containing(at)
    assert start <= at < end
    assert cycle.period_containing(start) == (start, end)
    assert cycle.period_containing(end - MICROSECOND) == (start, end)


@given(CYCLES, timestamps(1880, 2200))
def test_periods_follow_one_another(cycle: BillingCycle, at: datetime) -> None:
    """Each starts at the end of the previous one, for `period_containing`, `next_period` and `periods`."""
    first = cycle.period_containing(at)
    periods = [first]
    for _ in range(15):
        periods.append(cycle.next_period(periods[-1][1]))
        assert periods[-1] == cycle.period_containing(periods[-2][1])
        assert periods[-2][1] == periods[-1][0] < periods[-1][1]
    assert list(islice(cycle.periods(first[0], periods[-1][1]), 20)) == periods


@given(CYCLES, timestamps(1880, 2200), st.lists(CYCLES, min_size=1, max_size=12))
def test_a_customer_who_moves_has_no_gap_and_no_empty_period(
    cycle: BillingCycle, at: datetime, later: list[BillingCycle]
) -> None:
    """For any sequence of cycles, each period starts at the end of the last one and isn't empty."""
    start, end = cycle.period_containing(at)
    for following in later:
        assert start < end
        last, (start, end) = end, following.next_period(end)
        assert start == last
        assert following.period_containing(end)[0] == end


MOVES = st.sampled_from(["Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati", "Pacific/Niue", "UTC"])


@given(timestamps(1990, 2100), st.lists(MOVES, min_size=1, max_size=30))
def test_a_customer_who_moves_every_month_is_billed_each_month_once(at: datetime, timezones: list[str]) -> None:
    """A change of timezone never splits or skips a month: each lasts 26 to 33 days."""
    end = BillingCycle("month", "UTC").period_containing(at)[1]
    first = end
    for timezone in timezones:
        start, end = BillingCycle("month", timezone).next_period(end)
        assert timedelta(days=26) < end - start < timedelta(days=33)
    months = (end.year - first.year) * 12 + end.month - first.month + (end.day - first.day) / 31
    assert round(months) == len(timezones)
