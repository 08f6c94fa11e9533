"""Threads and processes close one period while others record: they agree on the result, and no event is lost."""

from contextlib import suppress
from datetime import datetime
from itertools import pairwise

from tallybook.application import ClosedPeriod, Metering
from tallybook.domain.errors import PeriodNotClosed, PeriodOverlaps

from .conftest import Start, start_together
from .ledgers import read_numbers
from .test_threads import run_together
from .usage import BATCH_SIZE, START, VALUE, batch, open_ledger

PERIOD_END = START.replace(day=2)


def check_totals(metering: Metering, recorded: int) -> None:
    """Check that each recorded event is in the frozen total, or in the adjustment if it was recorded later."""
    (closed,) = metering.periods.list("tokens")
    adjustments = metering.periods.adjustments("tokens")
    late_identifiers = {event.identifier for adjustment in adjustments for event in adjustment.events}
    events = metering.explain("tokens", "acme", closed.start, closed.end).events
    assert {event.identifier for event in events if event.position > closed.position} == late_identifiers
    assert closed.count + len(late_identifiers) == len(events) == recorded
    assert closed.quantity + sum(adjustment.difference for adjustment in adjustments) == recorded * VALUE


def test_threads_that_close_one_period_while_others_record_get_one_result(url: str) -> None:
    """Each event is in the frozen total or in the adjustment, never in both or neither."""
    with open_ledger(url) as metering:
        closed_periods: list[ClosedPeriod] = []

        def record(writer: str) -> None:
            for number in range(20):
                metering.record_many(batch(writer, number))

        def close() -> None:
            metering.catch_up()
            closed_periods.append(metering.periods.close("tokens", "acme", START, PERIOD_END, allow_empty=True))

        run_together([lambda: record("a"), lambda: record("b"), *[close] * 4])
        assert closed_periods == [closed_periods[0]] * 4
        check_totals(metering, 40 * BATCH_SIZE)


def test_one_of_several_threads_closes_overlapping_periods(url: str) -> None:
    """All other threads get an error, whatever their bounds; adjacent periods and other customers do not."""
    with open_ledger(url) as metering:
        closed: list[int] = []
        rejected: list[int] = []

        def close(day: int) -> None:
            try:
                metering.periods.close("tokens", "acme", START, START.replace(day=day), allow_empty=True)
                closed.append(day)
            except PeriodOverlaps:
                rejected.append(day)

        days = [2, 3, 4, 5, 6, 7]
        run_together([lambda day=day: close(day) for day in days])
        assert (len(closed), len(rejected)) == (1, 5)
        assert [period.end.day for period in metering.periods.list("tokens")] == closed

        tiles = list(pairwise(START.replace(day=day) for day in (8, 9, 10, 11, 12)))

        def close_tile(tile: tuple[datetime, datetime]) -> None:
            metering.periods.close("tokens", "acme", *tile, allow_empty=True)

        run_together([lambda tile=tile: close_tile(tile) for tile in tiles])
        assert [(period.start, period.end) for period in metering.periods.list("tokens")][1:] == tiles


def test_threads_that_close_and_reopen_leave_at_most_one_closed_period(url: str) -> None:
    """Closings and reopenings alternate in the ledger."""
    with open_ledger(url) as metering:

        def close_or_reopen() -> None:
            for _ in range(5):
                metering.periods.close("tokens", "acme", START, PERIOD_END, allow_empty=True)
                with suppress(PeriodNotClosed):  # another thread reopened it first
                    metering.periods.reopen("tokens", "acme", START, PERIOD_END, reason="why")

        run_together([close_or_reopen] * 3)
        periods = metering.periods.list("tokens", reopened=True)
        assert len([period for period in periods if period.is_closed]) <= 1
        assert metering.periods.list("tokens") == [period for period in periods if period.is_closed]


def test_processes_that_close_overlapping_periods_agree(start: Start, url: str) -> None:
    """Each process closes overlapping periods in its own order: one is closed, and all processes see the same one."""
    with open_ledger(url) as metering:
        metering.record_many(batch("before", 0))
        writer = start("record", url, "w", 30)
        closers = [start("close", url, ends) for ends in ("2,3,4", "3,4,2", "4,2,3")]
        start_together(*closers)
        outputs = [tuple(line) for closer in closers for line in read_numbers(closer)]
        read_numbers(writer)
        (closed_period,) = metering.periods.list("tokens")
        expected_line = (closed_period.end.day, closed_period.position, int(closed_period.quantity))
        assert set(outputs) == {expected_line} | {(day, 0, 0) for day in {2, 3, 4} - {closed_period.end.day}}
        check_totals(metering, 31 * BATCH_SIZE)
