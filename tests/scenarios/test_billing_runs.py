"""Billing runs of meters with event time windows, and of derived meters.

A month in Europe/Berlin begins an hour or two before the first window of UTC that it counts.
"""

from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from tallybook.application import BillingRunResult, PeriodNotEnded, RunDifferenceReason

from ..notation import Ledger, moment

OCTOBER = moment("2026-09-30T22:00"), moment("2026-10-31T23:00")
NOVEMBER = moment("2026-10-31T23:00"), moment("2026-11-30T23:00")
DECEMBER = moment("2026-11-30T23:00"), moment("2026-12-31T23:00")


def run(ledger: Ledger, month: tuple[datetime, datetime], at: str) -> BillingRunResult:
    """Run a billing run of all meters at a time."""
    ledger.clock.now = max(ledger.clock.now, moment(at))
    return ledger.metering.periods.run(*month, timezone="Europe/Berlin")


def closings(ledger: Ledger, month: tuple[datetime, datetime], meter: str = "calls") -> dict[str, Decimal]:
    """Return the quantity of each closing of a month, by customer."""
    periods = ledger.metering.periods.list(meter, start=month[0], end=month[1])
    return {period.customer: period.quantity for period in periods if (period.start, period.end) == month}


def test_runs_of_months_count_whole_windows_and_tile(ledger: Ledger) -> None:
    """The window of 30 November belongs to November though it ends in December; punctual usage is no adjustment."""
    ledger.given("""
        meter  calls  sum per day
        2026-10-31T22:30  acme calls 3
        2026-10-31T23:30  acme calls 5
        2026-11-01T10:00  acme calls 7
        2026-11-30T22:30  acme calls 11
    """)
    assert run(ledger, OCTOBER, "2026-11-30T22:30").is_complete
    ledger.given("""
        2026-11-30T23:30  acme calls 13
        2026-11-30T23:40  bolt calls 17
    """)
    with pytest.raises(PeriodNotEnded, match="its last event time window at 2026-12-01T00:00:00Z"):
        run(ledger, NOVEMBER, "2026-12-01T00:59")
    (total,) = run(ledger, NOVEMBER, "2026-12-01T01:00").run.meters
    assert total.is_balanced
    ledger.given("""
        2026-12-05T10:00  acme calls 19
        2026-12-31T23:30  acme calls 23
    """)
    run(ledger, DECEMBER, "2027-01-01T01:00")
    assert closings(ledger, OCTOBER) == {"acme": 5}
    assert closings(ledger, NOVEMBER) == {"acme": 7 + 13, "bolt": 17}
    assert closings(ledger, DECEMBER) == {"acme": 19 + 23}
    counted = [period.counted_range for period in ledger.metering.periods.list("calls", "acme")]
    midnights = [moment(f"{day}T00:00") for day in ("2026-10-01", "2026-11-01", "2026-12-01", "2027-01-01")]
    assert counted == list(pairwise(midnights))
    assert ledger.metering.periods.adjustments("calls") == []
    for month in (OCTOBER, NOVEMBER, DECEMBER):
        assert ledger.metering.periods.status(*month).is_complete
    assert ledger.metering.verify().is_equal


def test_a_late_customer_owes_the_windows_that_start_in_the_month(ledger: Ledger) -> None:
    """Usage in the first hour of the month lies in a window of the month before, and is owed for that."""
    ledger.given("""
        meter  calls  sum per day
        2026-10-20T10:00  acme calls 1
        2026-11-05T10:00  acme calls 2
    """)
    run(ledger, OCTOBER, "2026-11-05T10:00")
    run(ledger, NOVEMBER, "2026-12-01T01:00")
    ledger.given("""
        2026-10-31T23:30  late calls 5  id=x recorded=2026-12-02T00:00
        2026-11-30T23:30  late calls 7  id=y recorded=2026-12-02T00:00
    """)
    adjustments = ledger.metering.periods.adjustments("calls")
    assert [(adjustment.period.start, adjustment.difference) for adjustment in adjustments] == [
        (OCTOBER[0], 5),
        (NOVEMBER[0], 7),
    ]
    assert all(adjustment.is_late for adjustment in adjustments)
    assert adjustments[1].period.counted_range == (moment("2026-11-01T00:00"), moment("2026-12-01T00:00"))
    assert ledger.metering.periods.status(*NOVEMBER).is_complete
    assert ledger.metering.periods.status(*DECEMBER).is_complete


def test_a_run_continues_after_closings_under_other_windows(ledger: Ledger) -> None:
    """Usage between the last hour of such a closing and the first day of the month is in the closing of the run."""
    ledger.given("""
        meter  calls  sum per hour
        2026-10-20T10:00  acme calls 1
        2026-10-20T10:00  edge calls 2
        2026-10-31T23:30  acme calls 5
        2026-10-31T23:30  edge calls 8
        2026-11-02T10:00  acme calls 10
        2026-11-02T10:00  bolt calls 20
    """)
    for customer in ("acme", "edge"):
        ledger.metering.periods.close("calls", customer, *OCTOBER)
    ledger.given("change  calls  sum per day")
    (before,) = ledger.metering.periods.status(*NOVEMBER).meters
    assert (before.open_customers, before.unbilled_events) == (3, 4)
    result = run(ledger, NOVEMBER, "2026-12-01T01:00")
    assert closings(ledger, NOVEMBER) == {"acme": 15, "bolt": 20, "edge": 8}
    assert [(difference.customer, difference.reason, difference.sum) for difference in result.differences] == [
        ("acme", RunDifferenceReason.ADJOINING, -5),
        ("edge", RunDifferenceReason.ADJOINING, -8),
    ]
    (total,) = result.run.meters
    assert total.sum + sum(difference.sum for difference in result.differences) == total.usage_sum == 30
    assert result.is_complete
    assert {period.counted_range[0] for period in ledger.metering.periods.list("calls", "acme")} == {
        OCTOBER[0],
        NOVEMBER[0],
    }
    assert ledger.metering.periods.status(*NOVEMBER).is_complete
    assert ledger.metering.periods.adjustments("calls") == []
    assert ledger.metering.verify().is_equal


def test_a_run_closes_derived_meters_and_their_source(ledger: Ledger) -> None:
    """A customer whose first usage is late owes it on each meter that counts it."""
    ledger.given("""
        meter  requests  count
        meter  out       sum per day  from requests  where out
        2026-11-02T10:00  acme requests -  id=a  out=4
        2026-11-02T11:00  acme requests -  id=b  out=5
        2026-11-02T10:00  bolt requests -  id=c
        2026-11-30T23:30  acme requests -  id=d  out=6
    """)
    result = run(ledger, NOVEMBER, "2026-12-01T01:00")
    assert [(total.event_name, total.customers, total.is_balanced) for total in result.run.meters] == [
        ("out", 1, True),
        ("requests", 2, True),
    ]
    assert closings(ledger, NOVEMBER, "out") == {"acme": 5 + 6}
    assert closings(ledger, NOVEMBER, "requests") == {"acme": 2, "bolt": 1}
    ledger.given("2026-11-03T10:00  late requests -  id=e  out=7  recorded=2026-12-01T02:00")
    for meter, owed in (("out", 7), ("requests", 1)):
        (adjustment,) = ledger.metering.periods.adjustments(meter)
        assert (adjustment.period.customer, adjustment.difference, adjustment.is_late) == ("late", owed, True)
    assert ledger.metering.periods.status(*NOVEMBER).is_complete
    assert ledger.metering.verify().is_equal


def test_revoked_cancellations_count_as_known_at_the_position_of_a_run(ledger: Ledger) -> None:
    """One that was revoked before the run is in the closing; the customer of one revoked later is late."""
    ledger.given("""
        meter  calls  sum
        2026-11-30T21:00  acme calls 4  id=a
        2026-11-30T22:00  bolt calls 8  id=b
        cancel a  at=2026-11-30T22:10
        cancel b  at=2026-11-30T22:10
        revoke a  at=2026-11-30T22:20
    """)
    run(ledger, NOVEMBER, "2026-12-01T00:00")
    assert closings(ledger, NOVEMBER) == {"acme": 4}
    assert ledger.metering.periods.adjustments("calls") == []
    ledger.given("revoke b  at=2026-12-01T00:10")
    (adjustment,) = ledger.metering.periods.adjustments("calls")
    assert (adjustment.period.customer, adjustment.difference, adjustment.is_late) == ("bolt", 8, True)
    assert ledger.metering.periods.status(*NOVEMBER).is_complete


def add_region(ledger: Ledger) -> None:
    ledger.metering.rules.change("calls", {"optional_dimension_keys": ["region"]}, reason="billed by region")


def test_a_run_by_a_new_dimension_closes_a_reopened_period_without_it(ledger: Ledger) -> None:
    """The period is closed again under its first rules, which don't have the dimension: all of it is in one group."""
    ledger.given("""
        meter  calls  sum
        2026-11-10T10:00  acme calls 4  region=eu
        2026-11-10T10:00  bolt calls 8  region=eu
    """)
    ledger.clock.now = moment("2026-12-01T00:00")
    ledger.metering.periods.close("calls", "acme", *NOVEMBER)
    ledger.metering.periods.reopen("calls", "acme", *NOVEMBER, reason="wrong address")
    add_region(ledger)
    result = ledger.metering.periods.run(*NOVEMBER, timezone="Europe/Berlin", group_by=["region"])
    assert result.is_complete
    assert closings(ledger, NOVEMBER) == {"acme": 4, "bolt": 8}
    acme, bolt = ledger.metering.periods.list("calls", start=NOVEMBER[0], end=NOVEMBER[1])
    assert [(group.dimensions, group.quantity) for group in (*acme.groups, *bolt.groups)] == [
        ({"region": None}, 4), ({"region": "eu"}, 8),
    ]  # fmt: skip
    ledger.given("2026-11-11T10:00  acme calls 1  region=us  id=late  recorded=2026-12-02T00:00")
    assert ledger.adjustments("calls", by="region") == ["acme 31: +1, late counted +1, - +1"]


def test_late_usage_of_a_run_without_the_dimension_of_the_next_one(ledger: Ledger) -> None:
    """The first run owes it, under rules without the dimension; the lines are by the dimensions of the last run."""
    ledger.given("""
        meter  calls  sum
        2026-11-10T10:00  acme calls 4  region=eu
        2026-11-10T10:00  bolt calls 8  region=eu
    """)
    ledger.clock.now = moment("2026-12-01T00:00")
    half = NOVEMBER[0], moment("2026-11-15T00:00")
    ledger.metering.periods.close("calls", "acme", *half)
    assert not run(ledger, NOVEMBER, "2026-12-01T00:00").is_complete
    add_region(ledger)
    ledger.metering.periods.reopen("calls", "acme", *half, reason="the month is billed")
    result = ledger.metering.periods.run(*NOVEMBER, timezone="Europe/Berlin", group_by=["region"])
    assert result.is_complete
    ledger.given("2026-11-11T10:00  late calls 7  region=us  recorded=2026-12-02T00:00")
    (line,) = ledger.metering.periods.invoice_lines(*DECEMBER).lines
    assert (line.customer, line.dimensions, line.quantity, line.is_late) == ("late", {"region": None}, 7, True)
