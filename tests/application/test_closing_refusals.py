"""Closing, reopening and asking: what is refused, with which code and field, and what is allowed at the limit."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from tallybook.application import AcceptancePolicy, Metering, TallybookError

from ..notation import Clock, moment

START, END = moment("10"), moment("11")
HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)
NAIVE = datetime(2026, 11, 10)

Call = Callable[[Metering], object]


@pytest.fixture
def calls(metering: Metering, clock: Clock) -> Metering:
    """A meter of calls, long after the period."""
    clock.now = moment("13")
    metering.configure_meter("calls", customer_key="customer")
    return metering


def anything(value: object) -> Any:
    """A value that the type checker would refuse already."""
    return cast(Any, value)


def refusal(call: Callable[[], object]) -> tuple[str, str | None]:
    """The code and the field of a refusal."""
    with pytest.raises(TallybookError) as refused:
        call()
    return refused.value.code, refused.value.field


def close(metering: Metering, customer: object = "acme", start: object = START, end: object = END) -> object:
    """Close a period of calls."""
    return metering.close_period("calls", anything(customer), anything(start), anything(end))


REFUSED: dict[str, tuple[Call, tuple[str, str | None]]] = {
    "no meter": (lambda on: on.close_period("seats", "acme", START, END), ("no_meter", "event_name")),
    "no event name": (lambda on: on.close_period("", "acme", START, END), ("parameter_invalid", "event_name")),
    "event name too long": (
        lambda on: on.close_period("m" * 101, "acme", START, END),
        ("parameter_invalid", "event_name"),
    ),
    "no customer": (lambda on: close(on, ""), ("parameter_invalid", "customer")),
    "everyone": (lambda on: close(on, None), ("parameter_invalid", "customer")),
    "a number": (lambda on: close(on, 7), ("parameter_invalid", "customer")),
    "customer too long": (lambda on: close(on, "c" * 5_001), ("parameter_invalid", "customer")),
    "customer that can't be stored": (lambda on: close(on, "\0"), ("parameter_invalid", "customer")),
    "naive start": (lambda on: close(on, start=NAIVE), ("invalid_time_range", "start")),
    "naive end": (lambda on: close(on, end=NAIVE), ("invalid_time_range", "end")),
    "no end": (lambda on: close(on, end=None), ("invalid_time_range", "end")),
    "ends before it starts": (lambda on: close(on, start=END, end=START), ("invalid_time_range", "start")),
    "no time at all": (lambda on: close(on, end=START), ("invalid_time_range", "end")),
    "reopened, no meter": (
        lambda on: on.reopen_period("seats", "acme", START, END, reason="why"),
        ("no_meter", "event_name"),
    ),
    "reopened, never closed": (
        lambda on: on.reopen_period("calls", "acme", START, END, reason="why"),
        ("period_not_closed", "start"),
    ),
    "reopened for everyone": (
        lambda on: on.reopen_period("calls", anything(None), START, END, reason="why"),
        ("parameter_invalid", "customer"),
    ),
    "reopened for no reason": (
        lambda on: on.reopen_period("calls", "acme", START, END, reason=""),
        ("parameter_invalid", "reason"),
    ),
    "reopened by too long a name": (
        lambda on: on.reopen_period("calls", "acme", START, END, reason="why", by="x" * 501),
        ("parameter_invalid", "by"),
    ),
    "asked about no meter": (lambda on: on.closed_periods("seats"), ("no_meter", "event_name")),
    "asked about nobody": (lambda on: on.closed_periods("calls", ""), ("parameter_invalid", "customer")),
    "asked in naive time": (lambda on: on.closed_periods("calls", start=NAIVE), ("invalid_time_range", "start")),
    "asked as of a naive time": (lambda on: on.closed_periods("calls", as_of=NAIVE), ("invalid_as_of", "as_of")),
    "owed, no meter": (lambda on: on.adjustments("seats"), ("no_meter", "event_name")),
    "owed by nobody": (lambda on: on.adjustments("calls", ""), ("parameter_invalid", "customer")),
    "owed in naive time": (lambda on: on.adjustments("calls", end=NAIVE), ("invalid_time_range", "end")),
    "owed as of before the ledger": (lambda on: on.adjustments("calls", as_of=-1), ("invalid_as_of", "as_of")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(calls: Metering, name: str) -> None:
    """With a code and the field, and nothing is written."""
    head = calls.catch_up()
    call, expected = REFUSED[name]
    assert refusal(lambda: call(calls)) == expected
    assert calls.catch_up() == head


@pytest.mark.parametrize(("grace", "opens"), [(HOUR, END + HOUR), (timedelta(0), END), (None, END)])
def test_a_period_is_closed_once_it_and_its_grace_are_over(grace: timedelta | None, opens: datetime) -> None:
    """At the very moment, and not a microsecond before; without a grace when it ends."""
    clock = Clock(opens - MICROSECOND)
    with Metering.open("sqlite://", policy=AcceptancePolicy(grace=grace), clock=clock) as metering:
        metering.configure_meter("calls", customer_key="customer")
        assert refusal(lambda: close(metering)) == ("period_not_over", "end")
        clock.now = opens
        close(metering)


@pytest.mark.parametrize(
    ("start", "end"), [("10", "12"), ("09", "10T00:00:01"), ("10T12:00", "10T13:00"), ("10T23:59", "11T12:00")]
)
def test_a_period_that_overlaps_a_closed_one_is_refused(calls: Metering, start: str, end: str) -> None:
    """In part, within or around; of the same customer on the same meter only."""
    close(calls)
    assert refusal(lambda: close(calls, start=moment(start), end=moment(end))) == ("period_overlaps", "start")
    close(calls, "beta", moment(start), moment(end))


def test_periods_that_touch_are_closed_both(calls: Metering) -> None:
    """A period ends before its end: the next one begins there."""
    close(calls)
    close(calls, start=moment("09"), end=START)
    close(calls, start=END, end=moment("11T12:00"))
    assert [one.start for one in calls.closed_periods("calls")] == [moment("09"), START, END]


def test_bounds_are_the_same_moments_in_any_timezone(calls: Metering) -> None:
    """Asked for by other clocks, the first closing is given."""
    tokyo = ZoneInfo("Asia/Tokyo")
    first = close(calls)
    assert close(calls, start=START.astimezone(tokyo), end=END.astimezone(tokyo)) == first
    assert calls.closed_periods("calls") == [first]


@pytest.mark.parametrize(
    "customer", ["c" * 5_000, "a/b", "50%", "%2F", "Ünïcode 顧客 🙂", " ", ".", "a\nb", "é" * 5_000]
)
def test_a_customer_of_any_name(calls: Metering, customer: str) -> None:
    """Whatever the payload may hold for a name can be closed, asked for and reopened."""
    calls.record("calls", {"customer": customer, "value": "3"}, timestamp=START)
    close(calls, customer)
    calls.record("calls", {"customer": customer, "value": "4"}, timestamp=START)
    (closed,), (owed,) = calls.closed_periods("calls", customer), calls.adjustments("calls", customer)
    assert (closed.customer, closed.quantity, owed.difference) == (customer, 3, 4)
    assert calls.closed_periods("calls") == [closed]
    calls.reopen_period("calls", customer, START, END, reason="why")
    assert calls.closed_periods("calls") == []


def test_names_that_look_alike_never_mix(calls: Metering) -> None:
    """Neither customers nor meters, whatever one name has of the other."""
    names = ["a", "a/b", "a/", "a%2Fb", "A", "ab", "a0", "a "]
    for number, event_name in enumerate(["calls", "calls/x", "calls/", "calls%2Fx", "calls0", "call"]):
        calls.configure_meter(event_name, customer_key="customer")
        for each, customer in enumerate(names):
            calls.record(event_name, {"customer": customer, "value": f"{number}{each}"}, timestamp=START)
            calls.close_period(event_name, customer, START, END)
    for number, event_name in enumerate(["calls", "calls/x", "calls/", "calls%2Fx", "calls0", "call"]):
        closed = calls.closed_periods(event_name)
        assert [one.customer for one in closed] == sorted(names)
        for each, customer in enumerate(names):
            (one,) = calls.closed_periods(event_name, customer)
            assert (one.event_name, one.customer, one.quantity) == (event_name, customer, int(f"{number}{each}"))


def test_an_inactive_meter_can_be_closed(calls: Metering) -> None:
    """What was used before is billed all the same."""
    calls.record("calls", {"customer": "acme", "value": "3"}, timestamp=START)
    calls.deactivate_meter("calls")
    close(calls)
    calls.reopen_period("calls", "acme", START, END, reason="why")
    assert [one.quantity for one in calls.closed_periods("calls", reopened=True)] == [3]


def test_only_periods_that_touch_the_range_are_told(calls: Metering) -> None:
    """A range is half-open, as periods are, and may be open at either end."""
    for start in (moment("09"), START):
        close(calls, start=start, end=start + timedelta(days=1))
        calls.record("calls", {"customer": "acme", "value": "1"}, timestamp=start)
    found: list[list[str]] = []
    for start, end in ((None, START), (START, None), (None, None), (START - MICROSECOND, START + MICROSECOND)):
        closed = calls.closed_periods("calls", start=start, end=end)
        owed = calls.adjustments("calls", start=start, end=end)
        assert [one.period for one in owed] == closed
        found.append([f"{one.start:%d}" for one in closed])
    assert found == [["09"], ["10"], ["09", "10"], ["09", "10"]]
