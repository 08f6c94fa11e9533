"""Billing cycles: a customer's periods follow one another without gap or overlap, wherever the customer moves."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain import BillingCycle, TallybookError

ANCHOR = "2026-01-17T10:32+01:00"
MICROSECOND = timedelta(microseconds=1)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def told(bounds: tuple[datetime, datetime]) -> tuple[str, str]:
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
    assert told(BillingCycle(interval, timezone).around(moment(at))) == (start, end)


def test_a_cycle_is_the_calendar_month_in_utc_unless_told_otherwise() -> None:
    """The defaults."""
    assert BillingCycle() == BillingCycle("month", "UTC", None)


@pytest.mark.parametrize(
    ("interval", "timezone", "anchor", "start", "ends"),
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
        # at a time that is skipped on the 29th of March, and comes twice on the 25th of October
        ("day", "Europe/Berlin", "2026-01-01T02:30+01:00", "2026-03-28T01:30Z",
         ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
        ("day", "Europe/Berlin", "2026-01-01T02:30+01:00", "2026-10-24T00:30Z",
         ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        # on a day that never was
        ("day", "Pacific/Apia", "2011-12-01T12:00-10:00", "2011-12-29T22:00Z",
         ["2011-12-30T10:00Z", "2011-12-30T22:00Z"]),
        ("month", "Pacific/Apia", "2011-11-30T12:00-10:00", "2011-11-30T22:00Z",
         ["2011-12-30T10:00Z", "2012-01-29T22:00Z"]),
    ],
)  # fmt: skip
def test_with_an_anchor_periods_begin_at_its_wall_time(
    interval: str, timezone: str, anchor: str, start: str, ends: list[str]
) -> None:
    """On its day of each month, or that month's last; of each year; of every day."""
    cycle = BillingCycle(interval, timezone, moment(anchor))
    since = moment(start)
    for end in ends:
        assert told(cycle.around(since)) == (start, end)
        assert cycle.after(since) == cycle.around(since)
        since, start = moment(end), end


@pytest.mark.parametrize(
    ("cycle", "end", "following"),
    [
        # the cycle goes on
        (BillingCycle("month", "UTC"), "2022-02-01T00:00Z", "2022-03-01T00:00Z"),
        # the customer moves, by the 1st: the month that is just over is not billed again
        (BillingCycle("month", "America/Los_Angeles"), "2022-01-31T15:00Z", "2022-03-01T08:00Z"),
        (BillingCycle("month", "Asia/Tokyo"), "2022-02-01T08:00Z", "2022-02-28T15:00Z"),
        (BillingCycle("month", "Pacific/Niue"), "2022-01-31T10:00Z", "2022-03-01T11:00Z"),
        (BillingCycle("year", "America/Los_Angeles"), "2021-12-31T15:00Z", "2023-01-01T08:00Z"),
        # 26 hours are passed over, more are not
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
def test_the_next_period_begins_where_the_last_one_ended(cycle: BillingCycle, end: str, following: str) -> None:
    """It ends at the cycle's next boundary, but for one that is the same boundary told by other clocks."""
    assert told(cycle.after(moment(end))) == (end, following)


def test_the_periods_of_a_range() -> None:
    """They tile it; the first and last are cut to it."""
    cycle = BillingCycle("month", "Europe/Berlin", moment(ANCHOR))
    assert [told(bounds) for bounds in cycle.between(moment("2026-03-01T00:00Z"), moment("2026-05-01T00:00Z"))] == [
        ("2026-03-01T00:00Z", "2026-03-17T09:32Z"),
        ("2026-03-17T09:32Z", "2026-04-17T08:32Z"),
        ("2026-04-17T08:32Z", "2026-05-01T00:00Z"),
    ]
    assert list(cycle.between(moment(ANCHOR), moment(ANCHOR))) == []


def test_the_ends_of_time() -> None:
    """Periods are cut to what a datetime can name; none begins at its last moment."""
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for interval in ("day", "month", "year"):
        for timezone in ("Asia/Tokyo", "America/Los_Angeles"):
            cycle = BillingCycle(interval, timezone, moment(ANCHOR))
            assert cycle.around(first)[0] == first
            start, end = cycle.around(last - MICROSECOND)
            assert (end, cycle.after(start)) == (last, (start, last))


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
def test_what_is_no_cycle(code: str, field: str, arguments: dict[str, Any]) -> None:
    """A cycle is refused when it is made, by the name of the field."""
    with pytest.raises(TallybookError) as refused:
        BillingCycle(**arguments)
    assert (refused.value.code, refused.value.field) == (code, field)


Call = Callable[[BillingCycle], object]
NO_MOMENTS: list[tuple[str, str, Call]] = [
    ("invalid_timestamp", "at", lambda cycle: cycle.around(NAIVE)),
    ("invalid_timestamp", "at", lambda cycle: cycle.around(datetime.max.replace(tzinfo=UTC))),
    ("invalid_timestamp", "end", lambda cycle: cycle.after(NAIVE)),
    ("invalid_timestamp", "end", lambda cycle: cycle.after(datetime.max.replace(tzinfo=UTC))),
    ("invalid_time_range", "start", lambda cycle: cycle.between(NAIVE, moment(ANCHOR))),
    ("invalid_time_range", "end", lambda cycle: cycle.between(moment(ANCHOR), NAIVE)),
    ("invalid_time_range", "start", lambda cycle: cycle.between(moment(ANCHOR), moment(ANCHOR) - MICROSECOND)),
]


@pytest.mark.parametrize(("code", "field", "call"), NO_MOMENTS)
def test_what_is_no_moment(code: str, field: str, call: Call) -> None:
    """A moment is refused by its name, a range when it is asked for."""
    with pytest.raises(TallybookError) as refused:
        call(BillingCycle())
    assert (refused.value.code, refused.value.field) == (code, field)


def moments(first: int, last: int) -> st.SearchStrategy[datetime]:
    return st.datetimes(datetime(first, 1, 1), datetime(last, 12, 31), timezones=st.just(UTC))


CYCLES = st.builds(
    BillingCycle,
    st.sampled_from(["day", "month", "year"]),
    st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"})),
    st.none() | moments(1900, 2100),
)
ANY_MOMENT = moments(1, 9999) | moments(1900, 2100)


@given(CYCLES, ANY_MOMENT)
def test_a_period_holds_its_moment(cycle: BillingCycle, at: datetime) -> None:
    """It is also the period around its own start, and around its last microsecond."""
    start, end = cycle.around(at)
    assert start <= at < end
    assert cycle.around(start) == (start, end)
    assert cycle.around(end - MICROSECOND) == (start, end)


@given(CYCLES, moments(1880, 2200))
def test_periods_follow_one_another(cycle: BillingCycle, at: datetime) -> None:
    """Each begins where the one before ended, whether it is asked for by a moment, an end or a range."""
    first = cycle.around(at)
    periods = [first]
    for _ in range(15):
        periods.append(cycle.after(periods[-1][1]))
        assert periods[-1] == cycle.around(periods[-2][1])
        assert periods[-2][1] == periods[-1][0] < periods[-1][1]
    assert list(islice(cycle.between(first[0], periods[-1][1]), 20)) == periods


@given(CYCLES, moments(1880, 2200), st.lists(CYCLES, min_size=1, max_size=12))
def test_a_customer_who_moves_has_no_gap_and_no_empty_period(
    cycle: BillingCycle, at: datetime, later: list[BillingCycle]
) -> None:
    """Whatever cycles follow one another, each period begins where the last ended, and is longer than nothing."""
    start, end = cycle.around(at)
    for following in later:
        assert start < end
        last, (start, end) = end, following.after(end)
        assert start == last
        assert following.around(end)[0] == end


MOVES = st.sampled_from(["Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati", "Pacific/Niue", "UTC"])


@given(moments(1990, 2100), st.lists(MOVES, min_size=1, max_size=30))
def test_a_customer_who_moves_every_month_is_billed_each_month_once(at: datetime, timezones: list[str]) -> None:
    """Months are never split by a move, and none is left out: each lasts 26 to 33 days."""
    end = BillingCycle("month", "UTC").around(at)[1]
    first = end
    for timezone in timezones:
        start, end = BillingCycle("month", timezone).after(end)
        assert timedelta(days=26) < end - start < timedelta(days=33)
    months = (end.year - first.year) * 12 + end.month - first.month + (end.day - first.day) / 31
    assert round(months) == len(timezones)
