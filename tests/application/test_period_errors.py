"""Closed periods: which calls are rejected, with which code and field, and which are allowed at the limit."""

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
def calls_meter(metering: Metering, clock: Clock) -> Metering:
    """A ledger with the meter `calls`, at a time after the period and its grace period."""
    clock.now = moment("13")
    metering.meters.configure("calls", customer_key="customer")
    return metering


def any_value(value: object) -> Any:
    """Return a value that the type checker would reject."""
    return cast(Any, value)


def error_of(call: Callable[[], object]) -> tuple[str, str | None]:
    """Return the code and the field of the error that a call raises."""
    with pytest.raises(TallybookError) as exc_info:
        call()
    return exc_info.value.code, exc_info.value.field


def close_period(metering: Metering, customer: object = "acme", start: object = START, end: object = END) -> object:
    """Close a period of the meter `calls`."""
    return metering.periods.close("calls", any_value(customer), any_value(start), any_value(end), allow_empty=True)


REJECTED_CALLS: dict[str, tuple[Call, tuple[str, str | None]]] = {
    "no meter": (lambda on: on.periods.close("seats", "acme", START, END), ("no_meter", "event_name")),
    "no event name": (lambda on: on.periods.close("", "acme", START, END), ("parameter_invalid", "event_name")),
    "event name too long": (
        lambda on: on.periods.close("m" * 101, "acme", START, END),
        ("parameter_invalid", "event_name"),
    ),
    "no customer": (lambda on: close_period(on, ""), ("parameter_invalid", "customer")),
    "no customer at all": (lambda on: close_period(on, None), ("parameter_invalid", "customer")),
    "a number": (lambda on: close_period(on, 7), ("parameter_invalid", "customer")),
    "customer too long": (lambda on: close_period(on, "c" * 5_001), ("parameter_invalid", "customer")),
    "customer that can't be stored": (lambda on: close_period(on, "\0"), ("parameter_invalid", "customer")),
    "naive start": (lambda on: close_period(on, start=NAIVE), ("invalid_time_range", "start")),
    "naive end": (lambda on: close_period(on, end=NAIVE), ("invalid_time_range", "end")),
    "no end": (lambda on: close_period(on, end=None), ("invalid_time_range", "end")),
    "ends before it starts": (lambda on: close_period(on, start=END, end=START), ("invalid_time_range", "start")),
    "no time at all": (lambda on: close_period(on, end=START), ("invalid_time_range", "end")),
    "reopened, no meter": (
        lambda on: on.periods.reopen("seats", "acme", START, END, reason="why"),
        ("no_meter", "event_name"),
    ),
    "reopened, never closed": (
        lambda on: on.periods.reopen("calls", "acme", START, END, reason="why"),
        ("period_not_closed", "start"),
    ),
    "reopened, no customer": (
        lambda on: on.periods.reopen("calls", any_value(None), START, END, reason="why"),
        ("parameter_invalid", "customer"),
    ),
    "reopened, no reason": (
        lambda on: on.periods.reopen("calls", "acme", START, END, reason=""),
        ("parameter_invalid", "reason"),
    ),
    "reopened, requester too long": (
        lambda on: on.periods.reopen("calls", "acme", START, END, reason="why", by="x" * 501),
        ("parameter_invalid", "by"),
    ),
    "list, no meter": (lambda on: on.periods.list("seats"), ("no_meter", "event_name")),
    "list, no customer": (lambda on: on.periods.list("calls", ""), ("parameter_invalid", "customer")),
    "list, naive time": (lambda on: on.periods.list("calls", start=NAIVE), ("invalid_time_range", "start")),
    "list, naive as_of": (lambda on: on.periods.list("calls", as_of=NAIVE), ("invalid_as_of", "as_of")),
    "adjustments, no meter": (lambda on: on.periods.adjustments("seats"), ("no_meter", "event_name")),
    "adjustments, no customer": (lambda on: on.periods.adjustments("calls", ""), ("parameter_invalid", "customer")),
    "adjustments, naive time": (lambda on: on.periods.adjustments("calls", end=NAIVE), ("invalid_time_range", "end")),
    "adjustments, negative as_of": (
        lambda on: on.periods.adjustments("calls", as_of=-1),
        ("invalid_as_of", "as_of"),
    ),
}


@pytest.mark.parametrize("name", REJECTED_CALLS)
def test_invalid_calls_are_rejected(calls_meter: Metering, name: str) -> None:
    """The error has a code and the field, and nothing is recorded."""
    head = calls_meter.catch_up()
    call, expected = REJECTED_CALLS[name]
    assert error_of(lambda: call(calls_meter)) == expected
    assert calls_meter.catch_up() == head


@pytest.mark.parametrize(("grace_period", "opens"), [(HOUR, END + HOUR), (timedelta(0), END), (None, END)])
def test_a_period_can_be_closed_after_its_grace_period(grace_period: timedelta | None, opens: datetime) -> None:
    """Exactly when the grace period ends, not a microsecond earlier; without one, at the end of the period."""
    clock = Clock(opens - MICROSECOND)
    with Metering.open("sqlite://", policy=AcceptancePolicy(grace_period=grace_period), clock=clock) as metering:
        metering.meters.configure("calls", customer_key="customer")
        assert error_of(lambda: close_period(metering)) == ("period_not_ended", "end")
        clock.now = opens
        close_period(metering)


@pytest.mark.parametrize(
    ("start", "end"), [("10", "12"), ("09", "10T00:00:01"), ("10T12:00", "10T13:00"), ("10T23:59", "11T12:00")]
)
def test_a_period_that_overlaps_a_closed_period_is_rejected(calls_meter: Metering, start: str, end: str) -> None:
    """An overlap in part, inside or around is rejected, for the same customer and meter only."""
    close_period(calls_meter)
    assert error_of(lambda: close_period(calls_meter, start=moment(start), end=moment(end))) == (
        "period_overlaps",
        "start",
    )
    close_period(calls_meter, "beta", moment(start), moment(end))


def test_adjacent_periods_can_both_be_closed(calls_meter: Metering) -> None:
    """Periods are half-open: the end of one is the start of the next."""
    close_period(calls_meter)
    close_period(calls_meter, start=moment("09"), end=START)
    close_period(calls_meter, start=END, end=moment("11T12:00"))
    assert [period.start for period in calls_meter.periods.list("calls")] == [moment("09"), START, END]


def test_bounds_are_the_same_moments_in_any_timezone(calls_meter: Metering) -> None:
    """Closing the same period in another timezone returns the first closing."""
    tokyo = ZoneInfo("Asia/Tokyo")
    first = close_period(calls_meter)
    assert close_period(calls_meter, start=START.astimezone(tokyo), end=END.astimezone(tokyo)) == first
    assert calls_meter.periods.list("calls") == [first]


@pytest.mark.parametrize(
    "customer", ["c" * 5_000, "a/b", "50%", "%2F", "Ünïcode 顧客 🙂", " ", ".", "a\nb", "é" * 5_000]
)
def test_a_customer_of_any_name(calls_meter: Metering, customer: str) -> None:
    """A period can be closed, queried and reopened for every customer name that a payload may have."""
    calls_meter.record("calls", {"customer": customer, "value": "3"}, timestamp=START)
    close_period(calls_meter, customer)
    calls_meter.record("calls", {"customer": customer, "value": "4"}, timestamp=START)
    (closed,), (adjustment,) = (
        calls_meter.periods.list("calls", customer),
        calls_meter.periods.adjustments("calls", customer),
    )
    assert (closed.customer, closed.quantity, adjustment.difference) == (customer, 3, 4)
    assert calls_meter.periods.list("calls") == [closed]
    calls_meter.periods.reopen("calls", customer, START, END, reason="why")
    assert calls_meter.periods.list("calls") == []


def test_similar_names_are_never_confused(calls_meter: Metering) -> None:
    """Customers and meters are distinguished even if one name is a prefix of another or contains it."""
    names = ["a", "a/b", "a/", "a%2Fb", "A", "ab", "a0", "a "]
    for number, event_name in enumerate(["calls", "calls/x", "calls/", "calls%2Fx", "calls0", "call"]):
        calls_meter.meters.configure(event_name, customer_key="customer")
        for index, customer in enumerate(names):
            calls_meter.record(event_name, {"customer": customer, "value": f"{number}{index}"}, timestamp=START)
            calls_meter.periods.close(event_name, customer, START, END)
    for number, event_name in enumerate(["calls", "calls/x", "calls/", "calls%2Fx", "calls0", "call"]):
        closed = calls_meter.periods.list(event_name)
        assert [period.customer for period in closed] == sorted(names)
        for index, customer in enumerate(names):
            (period,) = calls_meter.periods.list(event_name, customer)
            assert (period.event_name, period.customer, period.quantity) == (
                event_name,
                customer,
                int(f"{number}{index}"),
            )


def test_an_inactive_meter_can_be_closed(calls_meter: Metering) -> None:
    """Usage recorded before the meter was deactivated is billed."""
    calls_meter.record("calls", {"customer": "acme", "value": "3"}, timestamp=START)
    calls_meter.meters.deactivate("calls")
    close_period(calls_meter)
    calls_meter.periods.reopen("calls", "acme", START, END, reason="why")
    assert [period.quantity for period in calls_meter.periods.list("calls", reopened=True)] == [3]


def test_only_periods_that_overlap_the_range_are_returned(calls_meter: Metering) -> None:
    """A range is half-open, like a period, and may have no start or no end."""
    for start in (moment("09"), START):
        close_period(calls_meter, start=start, end=start + timedelta(days=1))
        calls_meter.record("calls", {"customer": "acme", "value": "1"}, timestamp=start)
    starts: list[list[str]] = []
    for start, end in ((None, START), (START, None), (None, None), (START - MICROSECOND, START + MICROSECOND)):
        closed = calls_meter.periods.list("calls", start=start, end=end)
        adjustments = calls_meter.periods.adjustments("calls", start=start, end=end)
        assert [adjustment.period for adjustment in adjustments] == closed
        starts.append([f"{period.start:%d}" for period in closed])
    assert starts == [["09"], ["10"], ["09", "10"], ["09", "10"]]
