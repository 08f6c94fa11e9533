"""Which events count: the rule behind every total."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tallybook.domain.counting import UsageRecord, effective_by_position, effective_usage, window_start
from tallybook.domain.event_time_window import EventTimeWindow
from tallybook.domain.timestamps import (
    EPOCH,
    MAX_DATETIME,
    MIN_DATETIME,
    from_microseconds,
    microseconds_to_iso,
    to_iso,
    to_microseconds,
)

from ..notation import moment

HOUR = EventTimeWindow.HOUR


def usage_record(
    at: str, position: int, *, customer: int = 1, dimensions: str = "", cancelled: int | None = None
) -> UsageRecord:
    """Return a record with the value 1, recorded when it occurred."""
    occurred_at = to_microseconds(moment(at))
    return UsageRecord(customer, occurred_at, position, dimensions, Decimal(1), occurred_at, cancelled)


HISTORIES: list[tuple[str, EventTimeWindow | None, list[UsageRecord], dict[int, int]]] = [
    ("nothing", HOUR, [], {}),
    ("raw", None, [usage_record("10:05", 1), usage_record("10:05", 2)], {1: 1, 2: 2}),
    ("raw, cancelled", None, [usage_record("10:05", 1), usage_record("10:05", 2, cancelled=3)], {1: 1}),
    ("one hour", HOUR, [usage_record("10:05", 1), usage_record("10:59:59.999999", 2)], {1: 2, 2: 2}),
    ("two hours", HOUR, [usage_record("10:59:59.999999", 1), usage_record("11:00", 2)], {1: 1, 2: 2}),
    ("arrival, not timestamp", HOUR, [usage_record("10:05", 2), usage_record("10:45", 1)], {1: 2, 2: 2}),
    ("newest cancelled", HOUR, [usage_record("10:05", 1), usage_record("10:45", 2, cancelled=3)], {1: 1}),
    ("superseded cancelled", HOUR, [usage_record("10:05", 1, cancelled=3), usage_record("10:45", 2)], {2: 2}),
    ("customers", HOUR, [usage_record("10:05", 1), usage_record("10:45", 2, customer=2)], {1: 1, 2: 2}),
    ("dimensions", HOUR, [usage_record("10:05", 1), usage_record("10:45", 2, dimensions="eu")], {1: 1, 2: 2}),
    (
        "day",
        EventTimeWindow.DAY,
        [usage_record("00:00", 1), usage_record("23:59:59", 2), usage_record("11T00:00", 3)],
        {1: 2, 2: 2, 3: 3},
    ),
]


@pytest.mark.parametrize(("name", "window", "records", "expected"), HISTORIES, ids=[name for name, *_ in HISTORIES])
def test_which_event_supersedes_which(
    name: str, window: EventTimeWindow | None, records: list[UsageRecord], expected: dict[int, int]
) -> None:
    """A cancelled event supersedes nothing; in a window the newest arrival supersedes all others."""
    for order in (records, records[::-1]):
        assert {at: record.position for at, record in effective_by_position(order, window).items()} == expected
        assert {record.position for record in effective_usage(order, window)} == {
            at for at, by in expected.items() if at == by
        }


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
def test_windows_start_on_utc_hours_and_days(at: str, window: EventTimeWindow, start: str) -> None:
    """Before 1970 too, where microseconds are negative."""
    assert from_microseconds(window_start(to_microseconds(moment(at)), window)) == moment(start)


@pytest.mark.parametrize("at", ["1970-01-01T00:00", "1969-12-31T23:59:59.999999", "2026-11-10T10:05:00.000001"])
def test_a_moment_is_whole_microseconds(at: str) -> None:
    """The conversion is exact in both directions, unlike that of a float."""
    assert from_microseconds(to_microseconds(moment(at))) == moment(at)
    assert to_microseconds(EPOCH) == 0


@given(st.integers(to_microseconds(MIN_DATETIME), to_microseconds(MAX_DATETIME)))
@example(to_microseconds(MIN_DATETIME))
@example(to_microseconds(MAX_DATETIME))
@example(0)
@example(-1)
@example(1_000_000)
@example(100_000)
def test_a_moment_is_written_alike_in_either_way(at: int) -> None:
    """Digests of closed periods use this format: no fraction for whole seconds, otherwise six digits."""
    assert microseconds_to_iso(at) == to_iso(from_microseconds(at))
