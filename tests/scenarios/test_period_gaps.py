"""Gaps: the time between two closed periods that belongs to neither is reported, with its usage."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tallybook.application import BillingCycle, PeriodGap

from ..notation import Ledger


def test_time_between_closed_periods_is_a_gap_with_its_usage(ledger: Ledger) -> None:
    """Each customer has its own; periods that adjoin have none."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        11:00  acme calls 10
        11:01  zeta calls 7
        13T01:00  acme calls 100
        close  acme calls 10 11  at=14T01:00
        close  acme calls 12 13  at=14T01:00
        close  acme calls 13 14  at=14T01:00
        close  zeta calls 10 11  at=14T01:00
        close  zeta calls 12 13  at=14T01:00
        close  omega calls 10 11  at=14T01:00
    """)
    assert ledger.gaps("calls") == ["acme 11 to 12: 0, 0", "zeta 11 to 12: 0, 0"]
    ledger.given("""
        11T03:00  acme calls 10  id=late recorded=14T02:00
        11T04:00  acme calls 1  id=wrong recorded=14T02:00
        cancel wrong
    """)
    assert ledger.gaps("calls") == ["acme 11 to 12: 10, 1", "zeta 11 to 12: 0, 0"]


def test_closing_the_gap_ends_it_and_reopening_a_period_widens_it(ledger: Ledger) -> None:
    """As of an earlier position the gap is still there."""
    ledger.given("""
        meter  calls  sum
        11T03:00  acme calls 10
        close  acme calls 10 11  at=15T01:00
        close  acme calls 12 13  at=15T01:00
        close  acme calls 14 15  at=15T01:00
    """)
    before = ledger.position()
    ledger.when("close  acme calls 11 12  at=15T02:00")
    assert ledger.gaps("calls") == ["acme 13 to 14: 0, 0"]
    assert ledger.gaps("calls", as_of=before) == ["acme 11 to 12: 10, 1", "acme 13 to 14: 0, 0"]
    ledger.when("reopen  acme calls 12 13  reason=wrong")
    assert ledger.gaps("calls") == ["acme 12 to 14: 0, 0"]


def test_the_range_of_a_period_selects_the_gaps_that_adjoin_it(ledger: Ledger) -> None:
    """A gap is selected if it ends at the start of the range or starts at its end."""
    ledger.given("""
        meter  calls  sum
        close  acme calls 10 11  at=20T01:00
        close  acme calls 12 13  at=20T01:00
        close  acme calls 14 15  at=20T01:00
        close  acme calls 16 17  at=20T01:00
    """)
    periods = ledger.metering.periods
    period = periods.list("calls", "acme")[1]
    gaps = periods.gaps("calls", "acme", start=period.start, end=period.end)
    assert [(gap.start.day, gap.end.day) for gap in gaps] == [(11, 12), (13, 14)]


def test_a_customer_who_moves_west_has_a_gap_of_hours(ledger: Ledger) -> None:
    """January ends in Tokyo 17 hours before February starts in Los Angeles."""
    ledger.given("""
        meter  calls  sum
    """)
    metering = ledger.metering
    ledger.clock.now = datetime(2026, 3, 2, tzinfo=UTC)
    metering.record("calls", {"customer": "acme", "calls": "10"}, timestamp=datetime(2026, 1, 31, 18, tzinfo=UTC))
    january = BillingCycle("month", "Asia/Tokyo").period_containing(datetime(2026, 1, 15, tzinfo=UTC))
    february = BillingCycle("month", "America/Los_Angeles").period_containing(datetime(2026, 2, 15, tzinfo=UTC))
    for start, end in (january, february):
        metering.periods.close("calls", "acme", start, end, allow_empty=True)
    (gap,) = metering.periods.gaps("calls")
    assert gap == PeriodGap("calls", "acme", january[1], february[0], Decimal(10), 1)
    assert february[0] - january[1] == timedelta(hours=17)
