"""The contract of closed periods in the ledger: one stream for each customer and meter."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from eventsourcing.persistence import IntegrityError
from tallybook.application.ledger.ledger import Ledger
from tallybook.domain import AcceptancePolicy, CustomerPeriods, PeriodTotals, Rules

JANUARY, FEBRUARY, MARCH = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))
POLICY = AcceptancePolicy()
TOTALS = PeriodTotals(
    quantity=Decimal(5), billable=Decimal(5), sum=Decimal(5), count=1, last=None,
    rules=Rules(), revision=1, position=0, digest="",
)  # fmt: skip


def new_periods(customer: str = "acme") -> CustomerPeriods:
    """Return the periods of a customer, none of which is closed."""
    return CustomerPeriods.empty("tokens", customer, at=MARCH)


def test_closed_periods_are_read_back_as_they_were_closed(ledger: Ledger) -> None:
    """Periods that are closed and reopened later are appended to the same stream."""
    assert ledger.customer_periods("tokens", "acme") is None
    periods = new_periods()
    periods.close(JANUARY, FEBRUARY, TOTALS, at=MARCH, policy=POLICY)
    ledger.append(periods.collect_events())

    stored = ledger.customer_periods("tokens", "acme")
    assert stored is not None
    stored.reopen(JANUARY, FEBRUARY, reason="why", by="ops", at=MARCH)
    stored.close(JANUARY, FEBRUARY, TOTALS, at=MARCH, policy=POLICY)
    ledger.append(stored.collect_events())

    read_back = ledger.customer_periods("tokens", "acme")
    assert read_back is not None
    assert (read_back.version, read_back.closed_periods) == (3, stored.closed_periods)
    assert ledger.customer_periods("tokens", "zeta") is None


def test_one_of_two_concurrent_overlapping_closes_is_rejected(ledger: Ledger) -> None:
    """If two processes close periods concurrently, the version of the stream accepts only one of them."""
    periods, other_periods = new_periods(), new_periods()
    periods.close(JANUARY, FEBRUARY, TOTALS, at=MARCH, policy=POLICY)
    other_periods.close(JANUARY, FEBRUARY.replace(day=2), TOTALS, at=MARCH, policy=POLICY)
    ledger.append(periods.collect_events())
    with pytest.raises(IntegrityError):
        ledger.append(other_periods.collect_events())
    zeta = new_periods("zeta")
    zeta.close(JANUARY, FEBRUARY, TOTALS, at=MARCH, policy=POLICY)
    ledger.append(zeta.collect_events())
    assert ledger.head() == 2
