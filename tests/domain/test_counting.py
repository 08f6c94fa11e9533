"""Which events count: the one rule behind every figure."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tallybook.domain.counting import Usage, counted, survivors, window_start
from tallybook.domain.instants import EPOCH, FIRST, LAST, instant, iso, iso_of, microseconds
from tallybook.domain.rules import EventTimeWindow

from ..notation import moment

HOUR = EventTimeWindow.HOUR


def usage(at: str, position: int, *, customer: int = 1, dimensions: str = "", cancelled: int | None = None) -> Usage:
    """A usage of 1, recorded as it occurred."""
    when = microseconds(moment(at))
    return Usage(customer, when, position, dimensions, Decimal(1), when, None if cancelled is None else when, cancelled)


HISTORIES: list[tuple[str, EventTimeWindow | None, list[Usage], dict[int, int]]] = [
    ("nothing", HOUR, [], {}),
    ("raw", None, [usage("10:05", 1), usage("10:05", 2)], {1: 1, 2: 2}),
    ("raw, cancelled", None, [usage("10:05", 1), usage("10:05", 2, cancelled=3)], {1: 1}),
    ("one hour", HOUR, [usage("10:05", 1), usage("10:59:59.999999", 2)], {1: 2, 2: 2}),
    ("two hours", HOUR, [usage("10:59:59.999999", 1), usage("11:00", 2)], {1: 1, 2: 2}),
    ("arrival, not timestamp", HOUR, [usage("10:05", 2), usage("10:45", 1)], {1: 2, 2: 2}),
    ("newest cancelled", HOUR, [usage("10:05", 1), usage("10:45", 2, cancelled=3)], {1: 1}),
    ("overwritten cancelled", HOUR, [usage("10:05", 1, cancelled=3), usage("10:45", 2)], {2: 2}),
    ("customers", HOUR, [usage("10:05", 1), usage("10:45", 2, customer=2)], {1: 1, 2: 2}),
    ("dimensions", HOUR, [usage("10:05", 1), usage("10:45", 2, dimensions="eu")], {1: 1, 2: 2}),
    ("day", EventTimeWindow.DAY, [usage("00:00", 1), usage("23:59:59", 2), usage("11T00:00", 3)], {1: 2, 2: 2, 3: 3}),
]


@pytest.mark.parametrize(("name", "window", "usages", "standing"), HISTORIES, ids=[name for name, *_ in HISTORIES])
def test_which_event_counts_in_the_place_of_which(
    name: str, window: EventTimeWindow | None, usages: list[Usage], standing: dict[int, int]
) -> None:
    """Cancelled events stand for nothing; in a window all others are stood for by the newest arrival."""
    for order in (usages, usages[::-1]):
        assert {at: one.position for at, one in survivors(order, window).items()} == standing
        assert {one.position for one in counted(order, window)} == {at for at, by in standing.items() if at == by}


@pytest.mark.parametrize(
    ("at", "window", "start"),
    [
        ("10:00", HOUR, "10:00"),
        ("10:59:59.999999", HOUR, "10:00"),
        ("23:59:59.999999", EventTimeWindow.DAY, "00:00"),
        ("1969-12-31T23:30", HOUR, "1969-12-31T23:00"),
        ("1969-12-31T23:30", EventTimeWindow.DAY, "1969-12-31T00:00"),
        ("1970-01-01T00:00", EventTimeWindow.DAY, "1970-01-01T00:00"),
    ],
)
def test_windows_begin_on_utc_hours_and_days(at: str, window: EventTimeWindow, start: str) -> None:
    """Also before 1970, when microseconds are negative."""
    assert instant(window_start(microseconds(moment(at)), window)) == moment(start)


@pytest.mark.parametrize("at", ["1970-01-01T00:00", "1969-12-31T23:59:59.999999", "2026-11-10T10:05:00.000001"])
def test_a_moment_is_whole_microseconds(at: str) -> None:
    """There and back it is the same, where a float would lose the last digit."""
    assert instant(microseconds(moment(at))) == moment(at)
    assert microseconds(EPOCH) == 0


@given(st.integers(microseconds(FIRST), microseconds(LAST)))
@example(microseconds(FIRST))
@example(microseconds(LAST))
@example(0)
@example(-1)
@example(1_000_000)
@example(100_000)
def test_a_moment_is_written_alike_in_either_way(at: int) -> None:
    """The digests of closed periods are made of such text: a whole second has no fraction, any other six digits."""
    assert iso_of(at) == iso(instant(at))
