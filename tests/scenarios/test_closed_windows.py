"""Closed periods of meters with event time windows, and under rules that change within the period."""

from datetime import UTC, datetime, timedelta

import pytest
from tallybook.application import BillingCycle, Metering
from tallybook.domain.errors import PeriodNotEnded

from ..notation import Clock, Ledger, moment


def test_a_late_meter_event_supersedes_in_its_window(ledger: Ledger) -> None:
    """In a window the superseded event and the superseding event are listed; a cancellation restores the first."""
    ledger.given("""
        meter  seats  sum per hour
        10:05  acme seats 10  id=a
        11:05  acme seats  1  id=b
        close  acme seats 10 11  at=11T01:00
        10:01  acme seats  4  id=late  recorded=11T02:00
    """)
    assert ledger.adjustments("seats") == ["acme 10: -6, late counted +4, a superseded -10"]
    ledger.given("cancel late")
    assert ledger.adjustments("seats") == ["acme 10: +0, late cancelled +0"]


def test_a_window_belongs_whole_to_the_period_in_which_it_starts(ledger: Ledger) -> None:
    """The period that ends at noon has the whole day, and is closed once the day has ended. The next has none of it."""
    ledger.given("""
        meter  seats  sum per day
        10T10:00  acme seats 10  id=a
        10T14:00  acme seats  4  id=b
    """)
    ledger.when("""
        close  acme seats 09T12:00 10T12:00  at=10T13:00
        close  acme seats 09T12:00 10T12:00  at=11T00:59
        close  acme seats 09T12:00 10T12:00  at=11T01:00
        close  acme seats 10T12:00 11T12:00  at=12T01:00
    """).outcomes_are("period_not_ended", "period_not_ended", "closed 4", "closed 0")
    first, second = ledger.metering.periods.list("seats")
    assert first.counted_range == (moment("10"), moment("11"))
    assert second.counted_range == (moment("11"), moment("12"))
    ledger.given("10T15:00  acme seats 7  id=late  recorded=12T02:00")
    assert ledger.adjustments("seats") == ["acme 09: +3, b superseded -4, late counted +7"]


@pytest.mark.parametrize("window", ["hour", "day"])
def test_punctual_usage_never_adjusts_a_period_from_an_anchor(clock: Clock, window: str) -> None:
    """Months from the 17th at 10:32, each closed as soon as possible, of a level that is reported every three hours."""
    anchor = datetime(2026, 1, 17, 10, 32, tzinfo=UTC)
    cycle = BillingCycle("month", "UTC", anchor)
    clock.now = anchor
    with Metering.open("sqlite://", clock=clock) as metering:
        metering.meters.configure("storage", formula="last", event_time_window=window, customer_key="customer")
        start, end = cycle.period_containing(anchor)
        closed_at: list[datetime] = []
        for number in range(8 * 150):
            at = anchor + timedelta(hours=3 * number)
            clock.now = at
            if at >= end + timedelta(hours=1):
                try:
                    closed_at.append(metering.periods.close("storage", "acme", start, end).closed_at)
                except PeriodNotEnded:
                    assert at < end + timedelta(days=1, hours=1)
                else:
                    start, end = cycle.next_period(end)
            metering.record("storage", {"customer": "acme", "value": str(10 + at.hour)}, timestamp=at)
        assert len(closed_at) == 4
        assert metering.periods.adjustments("storage") == []


def test_a_period_without_the_start_of_a_window_is_empty(ledger: Ledger) -> None:
    """It has no usage and can't be closed, and a gap like it isn't shown."""
    ledger.given("""
        meter  seats  last per day
        10T11:00  acme seats 4
        close  acme seats 10 10T10:00  at=12T00:00
        close  acme seats 10T12:00 12  at=13T02:00
    """)
    ledger.then(total="acme seats 0", count=0, between="10T10:00 10T12:00")
    ledger.when("close acme seats 10T10:00 10T12:00  at=13T03:00").outcomes_are("invalid_time_range")
    assert ledger.metering.periods.gaps("seats") == []


def test_a_closing_begins_where_the_previous_one_ended_under_other_rules(ledger: Ledger) -> None:
    """Usage is billed once, whether the windows of the rules become shorter or longer for all usage.

    So is it in the rules differences: closings and these add up to the total under the rules in force.
    """
    ledger.given("""
        meter  calls  sum per day
        10T11:00  acme calls 1
        10T13:00  acme calls 2
        close  acme calls 09T12:00 10T12:00  at=11T01:00
        change  calls  sum
        11T11:00  acme calls 4
        11T13:00  acme calls 8
        close  acme calls 10T12:00 11T12:00  at=11T14:00
        change  calls  sum per day
        11T15:00  acme calls 16
        close  acme calls 11T12:00 12T12:00  at=13T01:00
    """)
    assert [period.quantity for period in ledger.metering.periods.list("calls")] == [2, 4, 16]
    ranges = [period.counted_range for period in ledger.metering.periods.list("calls")]
    assert ranges == [
        (moment("10"), moment("11")), (moment("11"), moment("11T12:00")), (moment("11T12:00"), moment("13")),
    ]  # fmt: skip
    assert ledger.adjustments("calls") == ["acme 10: +0, by the rules in force -4"]
    ledger.then(total="acme calls 18", between="10 13")
    assert ledger.metering.verify().is_equal


def test_a_period_over_a_change_of_the_window_has_no_adjustment(ledger: Ledger) -> None:
    """It is counted again by the rules over time that it was closed with, not by the last of them."""
    ledger.given("""
        meter  calls  sum
        10T11:00  acme calls 1
        10T12:00  acme calls 2
        11T11:00  acme calls 4
        11T12:00  acme calls 8
    """)
    ledger.metering.rules.change(
        "calls", {"event_time_window": "day"}, reason="a contract", effective_from=moment("11")
    )
    ledger.when("close acme calls 10 12  at=12T01:00").outcomes_are("closed 11")
    assert ledger.metering.periods.adjustments("calls") == []
    assert ledger.metering.verify().is_equal


def test_a_period_over_a_change_of_dimensions_has_groups_of_both(ledger: Ledger) -> None:
    """An event has the groups of the rules that apply to it: without the dimension, it is a group of its own."""
    ledger.given("""
        meter  calls  sum  by model
        10T11:00  acme calls 1  model=s  region=eu
        11T11:00  acme calls 2  model=s  region=us
    """)
    rules = {"dimension_keys": ["region"]}
    ledger.metering.rules.change("calls", rules, reason="a contract", effective_from=moment("11"))
    ledger.given("close  acme calls 10 12 by region  at=12T01:00")
    assert ledger.closed_periods("calls") == ["acme 10: 3, - 1, us 2"]
    ledger.given("10T12:00  acme calls 4  model=s  region=eu  id=late  recorded=12T02:00")
    assert ledger.adjustments("calls", by="region") == ["acme 10: +4, late counted +4, - +4, us +0"]
    assert ledger.metering.verify().is_equal
