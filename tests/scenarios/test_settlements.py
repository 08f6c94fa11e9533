"""Settlements: an adjustment that a credit note or an invoice has is no longer owed; what changes afterwards is."""

from functools import partial

import pytest
from tallybook.application import InvalidParameter, Metering, PeriodNotClosed

from ..notation import Ledger, moment

CLOSED = """
    meter  calls  sum
    10:00  acme calls 5  id=a
    10:01  acme calls 3  id=b
    close  acme calls 10 11  at=11T01:00
"""


def test_a_settled_adjustment_is_no_longer_owed(ledger: Ledger) -> None:
    """What is open is what has changed since the settlement."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  id=late  recorded=11T02:00
    """)
    ledger.when("settle  acme calls 10 11  document=INV-8").outcomes_are("settled +2")
    assert ledger.adjustments("calls") == []
    ledger.given("cancel b  at=11T03:00")
    assert ledger.adjustments("calls") == ["acme 10: -3, b cancelled -3"]
    ledger.when("settle  acme calls 10 11  document=CN-1").outcomes_are("settled -3")
    assert ledger.adjustments("calls") == []


def test_a_settlement_is_a_fact_of_the_closed_period(ledger: Ledger) -> None:
    """It has the document, the totals, the signed difference, the position, the author and the time."""
    ledger.given(f"""
        {CLOSED}
        10:30  acme calls -9  id=late  recorded=11T02:00
    """)
    position = ledger.position()
    ledger.given("settle  acme calls 10 11  document=CN-1  by=finance  at=11T04:00")
    (closed,) = ledger.metering.periods.list("calls")
    (settlement,) = closed.settlements
    assert (settlement.document, settlement.by, settlement.position) == ("CN-1", "finance", position)
    assert settlement.settled_at == moment("11T04:00")
    assert (settlement.quantity, settlement.billable) == (-1, 0)
    assert (settlement.difference, settlement.billable_difference) == (-9, -8)
    assert (closed.quantity, closed.billable) == (8, 8)


def test_a_document_settles_a_period_once(ledger: Ledger) -> None:
    """The same call again returns the first result and stores nothing; as of another position it is rejected."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  id=late  recorded=11T02:00
        settle  acme calls 10 11  document=INV-8
        12:00  acme calls 1  id=later  recorded=11T03:00
    """)
    head = ledger.position()
    ledger.when(f"""
        settle  acme calls 10 11  document=INV-8
        settle  acme calls 10 11  document=INV-8  position={head}
        settle  acme calls 10 11  document=INV-9
        settle  acme calls 10 11  document=INV-10
    """).outcomes_are("settled +2", "settlement_exists", "settled +1", "adjustment_not_found")
    assert ledger.position() == head + 1


def test_what_was_invoiced_is_settled_as_of_its_position(ledger: Ledger) -> None:
    """Usage that arrived between making the credit note and settling it stays owed."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  id=late  recorded=11T02:00
    """)
    position = ledger.position()
    ledger.given(f"""
        12:00  acme calls 1  id=later  recorded=11T03:00
        settle  acme calls 10 11  document=INV-8  position={position}
    """)
    assert ledger.adjustments("calls") == ["acme 10: +1, later counted +1"]
    assert ledger.adjustments("calls", as_of=position) == ["acme 10: +2, late counted +2"]


def test_nothing_owed_is_not_settled(ledger: Ledger) -> None:
    """Also before the period was closed, and if only other rules would make a difference."""
    ledger.given(CLOSED)
    ledger.when("settle  acme calls 10 11  document=CN-1").outcomes_are("adjustment_not_found")
    ledger.when("settle  acme calls 10 11  document=CN-1  position=3").outcomes_are("adjustment_not_found")
    ledger.given("change calls  count")
    ledger.when("""
        settle  acme calls 10 11  document=CN-1
        settle  beta calls 10 11  document=CN-1
    """).outcomes_are("adjustment_not_found", "period_not_closed")


def test_usage_of_a_late_customer_is_settled(ledger: Ledger) -> None:
    """The closing without usage that the adjustment is computed from is stored with the settlement."""
    ledger.given(f"""
        {CLOSED}
        11:00  zeta calls 4  id=late  recorded=11T02:00
        settle  zeta calls 10 11  document=INV-8
        11:30  zeta calls 1  id=later  recorded=11T03:00
    """)
    assert ledger.closed_periods("calls") == ["acme 10: 8", "zeta 10: 0"]
    assert ledger.adjustments("calls") == ["zeta 10: +1, later counted +1"]
    assert ledger.roll_forwards("calls") == ["zeta 10: 0, late +5, settled +4, open +1, now 5"]
    assert ledger.metering.periods.status(moment("10"), moment("11")).is_complete
    assert ledger.metering.verify().is_equal


def test_a_roll_forward_leads_from_the_closing_to_the_present(ledger: Ledger) -> None:
    """Late, cancelled, superseded and restored usage add up, with the settled and the open part."""
    ledger.given("""
        meter  calls  sum per hour
        10:00  acme calls 5  id=a
        11:00  acme calls 3  id=b
        12:00  acme calls 7  id=c
        cancel c
        close  acme calls 10 11  at=11T02:00
        cancel b
        10:30  acme calls 6  id=newer  recorded=11T03:00
        settle  acme calls 10 11  document=CN-1
        revoke c
        13:00  acme calls 1  id=late  recorded=11T04:00
    """)
    assert ledger.roll_forwards("calls") == [
        "acme 10: 8, late +7, cancelled -3, superseded -5, restored +7, settled -2, open +8, now 14"
    ]


def test_a_roll_forward_has_what_was_settled_and_cancelled_since(ledger: Ledger) -> None:
    """Late usage that a settlement has, and that is cancelled afterwards, is late and cancelled."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 100  id=late  recorded=11T02:00
        settle  acme calls 10 11  document=INV-8
        cancel late
        11:00  acme calls 7  id=later  recorded=11T03:00
    """)
    assert ledger.roll_forwards("calls") == ["acme 10: 8, late +107, cancelled -100, settled +100, open -93, now 15"]
    assert ledger.adjustments("calls") == ["acme 10: -93, late cancelled -100, later counted +7"]


def test_a_closing_is_explained_under_its_own_rules(ledger: Ledger) -> None:
    """Also one that was closed again after a change of rules."""
    ledger.given(f"""
        {CLOSED}
        change calls  max
        reopen acme calls 10 11  reason=address
        close  acme calls 10 11
        cancel a
    """)
    (closed,) = ledger.metering.periods.list("calls")
    explanation = ledger.metering.explain("calls", "acme", moment("10"), moment("11"), closed=True)
    assert (explanation.total.value, explanation.digest, explanation.revision) == (closed.quantity, closed.digest, 1)
    assert [(event.identifier, event.contribution) for event in explanation.events] == [("a", 5), ("b", 3)]
    for customer, day in (("acme", "09"), (None, "10")):
        with pytest.raises((PeriodNotClosed, InvalidParameter)):
            ledger.metering.explain("calls", customer, moment(day), moment("11"), closed=True)


def test_a_closing_without_usage_has_no_line(ledger: Ledger) -> None:
    """Unless it replaces one that was reopened."""
    ledger.given(f"""
        {CLOSED}
        close  beta calls 10 11
        11:00  zeta calls 4  id=late  recorded=11T02:00
        settle  zeta calls 10 11  document=INV-8
        cancel a
        cancel b
        reopen acme calls 10 11  reason=withdrawn
    """)
    assert ledger.invoice_lines("10", "11") == []
    ledger.given("close  acme calls 10 11")
    assert ledger.invoice_lines("10", "11") == ["acme calls 10: 0, billed 8"]


def test_a_cancelled_maximum_recalculates_the_next_one(ledger: Ledger) -> None:
    """Under max, an event may count more or less although it did not change."""
    ledger.given("""
        meter  calls  max
        10:00  acme calls 5  id=a
        11:00  acme calls 9  id=b
        close  acme calls 10 11  at=11T02:00
        cancel b
        change calls  sum
    """)
    assert ledger.roll_forwards("calls") == ["acme 10: 9, cancelled -9, recalculated +5, open -4, now 5"]


def test_invoice_lines_have_the_closed_usage_and_the_adjustments_of_earlier_periods(ledger: Ledger) -> None:
    """Settled in the same call, they are not owed again; as of their position, the same lines are returned."""
    ledger.given("""
        meter  calls  sum
        meter  seats  last
        10:00  acme calls 5  id=a
        10:00  acme seats 2
        10:00  beta calls 3  id=b
        close  acme calls 10 11  at=11T01:00
        close  acme seats 10 11
        close  beta calls 10 11
        11:00  acme calls 2  id=late  recorded=11T02:00
        12:00  late calls 9  recorded=11T02:00
        11T10:00  acme calls 4
        11T10:00  beta calls 6
        close  acme calls 11 12  at=12T01:00
        close  beta calls 11 12
        12:00  beta calls 1  recorded=12T02:00
    """)
    assert ledger.invoice_lines("10", "11") == ["acme calls 10: 5", "acme seats 10: 2", "beta calls 10: 3"]
    lines = [
        "acme calls 11: 4",
        "beta calls 11: 6",
        "acme calls 10: +2, billed 5",
        "beta calls 10: +1, billed 3",
        "late calls 10: +9, billed 0",
    ]
    assert ledger.invoice_lines("11", "12") == lines
    position = ledger.position()
    ledger.given("14:00  beta calls 7  id=after  recorded=12T03:00")
    assert ledger.invoice_lines("11", "12", as_of=position, settle="run 11") == lines
    assert ledger.invoice_lines("11", "12") == ["acme calls 11: 4", "beta calls 11: 6", "beta calls 10: +7, billed 4"]
    assert ledger.invoice_lines("11", "12", as_of=position, settle="run 11") == lines
    assert ledger.adjustments("calls") == ["beta 10: +7, after counted +7"]


def test_the_invoice_lines_of_one_customer(ledger: Ledger) -> None:
    """Its adjustments are settled by a document of its own."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        10:00  beta calls 3
        close  acme calls 10 11  at=11T01:00
        close  beta calls 10 11
        11:00  acme calls 2  id=a  recorded=11T02:00
        12:00  beta calls 1  id=b  recorded=11T02:00
    """)
    periods = ledger.metering.periods
    (usage,) = periods.invoice_lines(moment("10"), moment("11"), customer="acme").lines
    assert (usage.customer, usage.quantity) == ("acme", 5)
    settlement = periods.settle_invoice_lines(moment("11"), moment("12"), customer="acme", document="INV-7")
    assert (settlement.settled, settlement.not_settled) == (1, ())
    assert ledger.adjustments("calls") == ["beta 10: +1, b counted +1"]


def test_invoice_lines_of_groups(ledger: Ledger) -> None:
    """A closing by dimensions has a line for each group, and so has its adjustment."""
    ledger.given("""
        meter  calls  sum  by region
        10:00  acme calls 5  region=eu
        10:00  acme calls 3  region=us  id=us
        close  acme calls 10 11  by region  at=11T01:00
        cancel us
        11:00  acme calls 2  region=ap  recorded=11T02:00
    """)
    assert ledger.invoice_lines("10", "11") == ["acme calls 10 eu: 5", "acme calls 10 us: 3"]
    assert ledger.invoice_lines("11", "12") == ["acme calls 10 ap: +2, billed 0", "acme calls 10 us: -3, billed 3"]


def test_a_reopened_period_is_closed_under_the_rules_of_its_first_closing(ledger: Ledger) -> None:
    """A wrong address on the invoice doesn't bill other rules; the present ones are used if asked for."""
    ledger.given(f"""
        {CLOSED}
        change calls  count  at=11T02:00
    """)
    day = moment("10"), moment("11")
    preview = partial(ledger.metering.periods.preview, "calls", "acme", *day)
    previews = [preview(), preview(rules="current")]
    assert [(preview.totals.quantity, preview.difference) for preview in previews] == [(8, 0), (2, -6)]
    ledger.given("reopen acme calls 10 11  reason=address")
    ledger.when("close  acme calls 10 11").outcomes_are("closed 8")
    assert ledger.metering.verify().is_equal
    ledger.given("reopen acme calls 10 11  reason=contract")
    ledger.when("close  acme calls 10 11  rules=current").outcomes_are("closed 2")
    ledger.given("reopen acme calls 10 11  reason=address")
    ledger.when("close  acme calls 10 11").outcomes_are("closed 2")
    assert ledger.metering.verify().is_equal
    assert ledger.closed_periods("calls") == [
        "acme 10: 8 reopened", "acme 10: 8 reopened", "acme 10: 2 reopened", "acme 10: 2"
    ]  # fmt: skip


def test_a_billing_run_closes_a_reopened_period_under_the_rules_of_its_first_closing(ledger: Ledger) -> None:
    """The run reports what the present rules would count otherwise."""
    ledger.given(f"""
        {CLOSED}
        10:00  beta calls 4  recorded=11T01:30
        change calls  count  customer=calls  at=11T02:00
        reopen acme calls 10 11  reason=address
    """)
    result = ledger.metering.periods.run(moment("10"), moment("11"))
    assert {(one.customer, one.reason.value, one.sum, one.count) for one in result.differences} >= {
        ("acme", "reclosed", -8, -2)
    }
    assert "acme 10: 8" in ledger.closed_periods("calls")
    assert ledger.metering.verify().is_equal


def test_a_reopened_closing_keeps_its_settlements(ledger: Ledger) -> None:
    """Its documents are withdrawn: the next closing is billed in full, and the line names what was billed before."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  id=late  recorded=11T02:00
        settle  acme calls 10 11  document=INV-8
        cancel b
    """)
    ledger.when("reopen acme calls 10 11  reason=address").outcomes_are("period_settled")
    ledger.given("""
        reopen acme calls 10 11  reason=withdrawn  by=ops  withdraw=yes
        close  acme calls 10 11
    """)
    first, second = ledger.metering.periods.list("calls", reopened=True)
    assert [settlement.document for settlement in first.settlements] == ["INV-8"]
    assert (first.reason, first.by, second.quantity, second.settlements) == ("withdrawn", "ops", 7, ())
    assert ledger.invoice_lines("10", "11") == ["acme calls 10: 7, billed 10"]
    assert ledger.adjustments("calls") == []


def test_a_forged_settlement_is_found(metering: Metering, ledger: Ledger) -> None:
    """`verify` recomputes each settlement at its position."""
    ledger.given(f"""
        {CLOSED}
        11:00  acme calls 2  id=late  recorded=11T02:00
    """)
    position = ledger.position()
    periods = metering.periods._ledger.customer_periods("calls", "acme")  # pyright: ignore[reportPrivateUsage]
    assert periods is not None
    periods.settle(
        moment("10"), moment("11"), quantity=periods.closed_periods[0].quantity + 3,
        billable=periods.closed_periods[0].billable + 3, position=position, document="CN-1", by=None,
        at=moment("11T03:00"),
    )  # fmt: skip
    metering.periods._ledger.append(periods.collect_events())  # pyright: ignore[reportPrivateUsage]
    (difference,) = metering.verify().differing_periods
    assert difference.settlement is not None
    assert (difference.settlement.quantity, difference.expected.quantity) == (11, 10)


def test_the_adjustment_of_a_closing_without_groups_has_one_line(ledger: Ledger) -> None:
    """Also if a billing run closed the period of others by dimensions: the invoice has one line for its usage."""
    ledger.given("""
        meter  calls  max  by region
        10:00  acme calls 9  region=eu
        10:00  acme calls 5  region=us
        10:00  beta calls 1  region=eu
        close  acme calls 10 11  at=11T01:00
    """)
    ledger.metering.periods.run(moment("10"), moment("11"), group_by=["region"])
    ledger.given("""
        11:00  acme calls 7   region=us  recorded=11T02:00
        11:00  beta calls 2   region=us  recorded=11T02:00
        11:00  late calls 3   region=us  recorded=11T02:00
    """)
    assert ledger.invoice_lines("10", "11") == ["acme calls 10: 9", "beta calls 10 eu: 1"]
    assert ledger.invoice_lines("11", "12") == ["beta calls 10 us: +2, billed 0", "late calls 10 us: +3, billed 0"]
