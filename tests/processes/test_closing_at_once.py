"""Several threads and processes close at once, while others record: one answer, and each event is told once."""

from contextlib import suppress
from datetime import datetime
from itertools import pairwise

from tallybook.application import ClosedPeriod, Metering
from tallybook.domain.errors import PeriodNotClosed, PeriodOverlaps

from .conftest import Start, go
from .ledgers import finished
from .test_threads import run_together
from .usage import BATCH, START, VALUE, batch, opened

CLOSED = START.replace(day=2)


def check(metering: Metering, recorded: int) -> None:
    """Hold that each of so many events is in the frozen figure, or in the adjustment where it came later."""
    (closed,) = metering.closed_periods("tokens")
    owed = metering.adjustments("tokens")
    late = {event.identifier for one in owed for event in one.events}
    events = metering.explain("tokens", "acme", closed.start, closed.end).events
    assert {one.identifier for one in events if one.position > closed.position} == late
    assert closed.count + len(late) == len(events) == recorded
    assert closed.quantity + sum(one.difference for one in owed) == recorded * VALUE


def test_threads_that_close_one_period_while_others_record_are_given_one_answer(url: str) -> None:
    """Each event is in the frozen figure or owed on the period, never both or neither."""
    with opened(url) as metering:
        answers: list[ClosedPeriod] = []

        def record(writer: str) -> None:
            for number in range(20):
                metering.record_many(batch(writer, number))

        def close() -> None:
            metering.catch_up()
            answers.append(metering.close_period("tokens", "acme", START, CLOSED))

        run_together([lambda: record("a"), lambda: record("b"), *[close] * 4])
        assert answers == [answers[0]] * 4
        check(metering, 40 * BATCH)


def test_of_threads_that_close_overlapping_periods_one_is_first(url: str) -> None:
    """All others are refused, whatever their bounds; neighbours and other customers are not."""
    with opened(url) as metering:
        closed: list[int] = []
        refused: list[int] = []

        def close(day: int) -> None:
            try:
                metering.close_period("tokens", "acme", START, START.replace(day=day))
                closed.append(day)
            except PeriodOverlaps:
                refused.append(day)

        days = [2, 3, 4, 5, 6, 7]
        run_together([lambda day=day: close(day) for day in days])
        assert (len(closed), len(refused)) == (1, 5)
        assert [one.end.day for one in metering.closed_periods("tokens")] == closed

        tiles = list(pairwise(START.replace(day=day) for day in (8, 9, 10, 11, 12)))

        def close_tile(tile: tuple[datetime, datetime]) -> None:
            metering.close_period("tokens", "acme", *tile)

        run_together([lambda tile=tile: close_tile(tile) for tile in tiles])
        assert [(one.start, one.end) for one in metering.closed_periods("tokens")][1:] == tiles


def test_threads_that_close_and_reopen_leave_one_standing_at_most(url: str) -> None:
    """However closings and reopenings follow each other, each is in the ledger in turn."""
    with opened(url) as metering:

        def turn() -> None:
            for _ in range(5):
                metering.close_period("tokens", "acme", START, CLOSED)
                with suppress(PeriodNotClosed):  # another thread reopened it first
                    metering.reopen_period("tokens", "acme", START, CLOSED, reason="why")

        run_together([turn] * 3)
        closings = metering.closed_periods("tokens", reopened=True)
        assert len([one for one in closings if one.is_standing]) <= 1
        assert metering.closed_periods("tokens") == [one for one in closings if one.is_standing]


def test_processes_that_close_overlapping_periods_agree(start: Start, url: str) -> None:
    """Of the periods that each of them closes in its own order one stands, told by all in the same way."""
    with opened(url) as metering:
        metering.record_many(batch("before", 0))
        writer = start("record", url, "w", 30)
        closers = [start("close", url, ends) for ends in ("2,3,4", "3,4,2", "4,2,3")]
        go(*closers)
        told = [tuple(line) for closer in closers for line in finished(closer)]
        finished(writer)
        (stands,) = metering.closed_periods("tokens")
        one = (stands.end.day, stands.position, int(stands.quantity))
        assert set(told) == {one} | {(day, 0, 0) for day in {2, 3, 4} - {stands.end.day}}
        check(metering, 31 * BATCH)
