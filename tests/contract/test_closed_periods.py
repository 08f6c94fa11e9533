"""The contract of closed periods in the ledger: a customer's on one meter are one stream."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from eventsourcing.persistence import IntegrityError
from tallybook.application.ledger import Ledger
from tallybook.domain import AcceptancePolicy, ClosedPeriods, Figures, Rules

JANUARY, FEBRUARY, MARCH = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))
POLICY = AcceptancePolicy()
FIGURES = Figures(
    quantity=Decimal(5), billable=Decimal(5), sum=Decimal(5), count=1, last=None,
    rules=Rules(), revision=1, position=0, digest="",
)  # fmt: skip


def begin(customer: str = "acme") -> ClosedPeriods:
    """A customer's periods, none closed yet."""
    return ClosedPeriods.begin("tokens", customer, at=MARCH)


def test_closed_periods_are_read_back_as_they_were_closed(ledger: Ledger) -> None:
    """Also what was closed and reopened after the first was stored."""
    assert ledger.closed_periods("tokens", "acme") is None
    periods = begin()
    periods.close(JANUARY, FEBRUARY, FIGURES, at=MARCH, policy=POLICY)
    ledger.append(periods.collect_events())

    stored = ledger.closed_periods("tokens", "acme")
    assert stored is not None
    stored.reopen(JANUARY, FEBRUARY, reason="why", by="ops", at=MARCH)
    stored.close(JANUARY, FEBRUARY, FIGURES, at=MARCH, policy=POLICY)
    ledger.append(stored.collect_events())

    again = ledger.closed_periods("tokens", "acme")
    assert again is not None
    assert (again.version, again.closings) == (3, stored.closings)
    assert ledger.closed_periods("tokens", "zeta") is None


def test_of_two_who_close_overlapping_periods_at_once_one_is_refused(ledger: Ledger) -> None:
    """Neither saw the other's closing; the stream's version lets only one of them in, whatever the bounds."""
    one, other = begin(), begin()
    one.close(JANUARY, FEBRUARY, FIGURES, at=MARCH, policy=POLICY)
    other.close(JANUARY, FEBRUARY.replace(day=2), FIGURES, at=MARCH, policy=POLICY)
    ledger.append(one.collect_events())
    with pytest.raises(IntegrityError):
        ledger.append(other.collect_events())
    zeta = begin("zeta")
    zeta.close(JANUARY, FEBRUARY, FIGURES, at=MARCH, policy=POLICY)
    ledger.append(zeta.collect_events())
    assert ledger.head() == 2
