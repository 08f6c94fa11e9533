"""Settlements that conflict: of two documents, with a closing of a late customer, and withdrawn ones."""

from datetime import timedelta
from pathlib import Path

import pytest
from tallybook.application import InvalidAsOf, Metering

from tallybook import AcceptancePolicy

from ..notation import Clock, Ledger, moment

CLOSED = """
    meter  calls  sum
    10:00  acme calls 5  id=a
    10:01  acme calls 3  id=b
    close  acme calls 10 11  at=11T01:00
"""


def test_an_adjustment_that_another_document_has_is_reported(ledger: Ledger) -> None:
    """The others among the lines are settled. As of a position that doesn't exist yet, nothing is."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        10:00  beta calls 3
        close  acme calls 10 11  at=11T01:00
        close  beta calls 10 11
        11:00  acme calls 2  id=a  recorded=11T02:00
        12:00  beta calls 1  id=b  recorded=11T02:00
    """)
    position = ledger.position()
    ledger.given(f"settle  acme calls 10 11  document=CN-1  position={position}")
    periods, days = ledger.metering.periods, (moment("11"), moment("12"))
    with pytest.raises(InvalidAsOf):
        periods.invoice_lines(*days, as_of=position + 2, settle="run 11")
    settlement = periods.invoice_lines(*days, as_of=position, settle="run 11").settlement
    assert settlement is not None
    assert (settlement.settled, [one.customer for one in settlement.not_settled]) == (1, ["acme"])
    assert [one.error.code for one in settlement.not_settled] == ["adjustment_not_found"]
    assert ledger.adjustments("calls") == []


def test_a_late_customer_that_is_closed_in_another_period_is_reported(ledger: Ledger) -> None:
    """Its usage is in that closing. The other adjustments among the lines are settled."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T01:00
        11:00  acme calls 2  id=a  recorded=11T02:00
        11:00  late calls 4  id=b  recorded=11T02:00
    """)
    position = ledger.position()
    ledger.given("close  late calls 09 11")
    periods = ledger.metering.periods
    settlement = periods.settle_invoice_lines(moment("11"), moment("12"), document="run 11", as_of=position)
    assert (settlement.settled, [one.customer for one in settlement.not_settled]) == (1, ["late"])
    (error,) = (one.error for one in settlement.not_settled)
    assert error.code == "adjustment_not_found"
    assert error.__traceback__ is error.__cause__ is error.__context__ is None  # they hold the periods of a batch
    ledger.when(f"settle  late calls 10 11  document=INV-8  position={position}").outcomes_are("adjustment_not_found")
    assert ledger.adjustments("calls") == []


def test_two_documents_never_have_the_same_usage(ledger: Ledger) -> None:
    """Both were made before either was settled: the second settlement is rejected, not stored as one of the rest."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  id=late  recorded=11T02:00
    """)
    first = ledger.position()
    ledger.given("12:00  acme calls 1  id=later  recorded=11T03:00")
    second = ledger.position()
    assert ledger.invoice_lines("11", "12", as_of=second) == ["acme calls 10: +3, billed 8"]
    ledger.when(f"""
        settle  acme calls 10 11  document=INV-8  position={first}
        settle  acme calls 10 11  document=INV-9  position={second}
        settle  acme calls 10 11  document=INV-8  position={first}
    """).outcomes_are("settled +2", "adjustment_not_found", "settled +2")
    periods = ledger.metering.periods
    settlement = periods.settle_invoice_lines(moment("11"), moment("12"), document="run 11", as_of=second)
    assert (settlement.settled, [one.customer for one in settlement.not_settled]) == (0, ["acme"])
    assert ledger.adjustments("calls") == ["acme 10: +1, later counted +1"]


def test_a_late_customer_settled_under_the_rules_of_a_period_closed_again_is_verified(ledger: Ledger) -> None:
    """It has the rules of the last closing of the period, which were not in force any more."""
    ledger.given(f"""
        {CLOSED}
        change calls  count  at=11T02:00
        reopen acme calls 10 11  reason=address
        close  acme calls 10 11
        11:00  late calls 4  id=late  recorded=11T03:00
        settle  late calls 10 11  document=INV-8
    """)
    assert ledger.closed_periods("calls") == ["acme 10: 8 reopened", "acme 10: 8", "late 10: 0"]
    assert "late 10: 0, late +4, settled +4, by_rules -3, now 4" in ledger.roll_forwards("calls")
    assert ledger.metering.verify().is_equal


def test_a_withdrawn_settlement_of_a_late_customer_is_not_stored_again(ledger: Ledger) -> None:
    """A retry of the call that settled it settles nothing. Another document does: the usage is owed again."""
    ledger.given(f"""
        {CLOSED}
        11:00  late calls 4  id=late  recorded=11T02:00
    """)
    position = ledger.position()
    ledger.given(f"""
        settle  late calls 10 11  document=INV-8  position={position}
        reopen  late calls 10 11  reason=wrong  withdraw=yes
    """)
    periods, days = ledger.metering.periods, (moment("11"), moment("12"))
    settlement = periods.settle_invoice_lines(*days, document="INV-8", as_of=position)
    assert (settlement.settled, [one.error.code for one in settlement.not_settled]) == (0, ["adjustment_not_found"])
    assert ledger.adjustments("calls") == ["late 10: +4, late counted +4"]
    ledger.when(f"settle  late calls 10 11  document=INV-9  position={position}").outcomes_are("settled +4")
    assert ledger.metering.verify().is_equal


def test_the_withdrawn_documents_of_a_closing_by_groups_billed_its_lines(ledger: Ledger) -> None:
    """Each line is billed for itself, so a negative one bills 0: what was billed before is the sum of the lines."""
    ledger.given("""
        meter  calls  sum  by region
        10:00  acme calls 5   region=eu
        10:00  acme calls -3  region=us
        close  acme calls 10 11  by region  at=11T01:00
        reopen acme calls 10 11  reason=address
        close  acme calls 10 11  by region
    """)
    assert ledger.invoice_lines("10", "11") == ["acme calls 10 eu: 5, billed 5", "acme calls 10 us: -3"]
    ledger.given("""
        11:00  acme calls 4  region=us  recorded=11T02:00
        settle acme calls 10 11  document=INV-8
        reopen acme calls 10 11  reason=address  withdraw=yes
        close  acme calls 10 11  by region
    """)
    assert ledger.invoice_lines("10", "11") == ["acme calls 10 eu: 5, billed 6", "acme calls 10 us: 1"]


def test_a_late_customer_is_not_closed_within_the_grace_period(clock: Clock, tmp_path: Path) -> None:
    """A program with a longer one reports it, and settles the other adjustments."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with Metering.open(url, clock=clock) as metering:
        Ledger(metering, clock).given("""
            meter  calls  sum
            10:00  acme calls 5
            close  acme calls 10 11  at=11T01:00
            11:00  acme calls 2  id=a  recorded=11T02:00
            11:00  late calls 4  id=b  recorded=11T02:00
        """)
    with Metering.open(url, clock=clock, policy=AcceptancePolicy(grace_period=timedelta(hours=72))) as metering:
        settlement = metering.periods.settle_invoice_lines(moment("11"), moment("12"), document="run 11")
    assert (settlement.settled, [one.error.code for one in settlement.not_settled]) == (1, ["period_not_ended"])
