"""The rules difference of a period that was closed under several revisions of the rules."""

import pytest

from ..notation import Ledger, moment


@pytest.mark.parametrize("others", [0, 20], ids=["one closing", "many closings"])
@pytest.mark.parametrize(
    ("words", "difference"),
    [("sum where env=live", -10), ("sum value=units", +6), ("sum customer=account", -10), ("sum per day", -1)],
)
def test_rules_of_a_part_of_the_period_come_into_force_for_all_of_it(
    ledger: Ledger, words: str, difference: int, others: int
) -> None:
    """What they would add to the part before is the rules difference, as if it had been closed under one revision."""
    ledger.given("""
        meter   calls  sum
        09:00   acme calls 1   account=acme  env=live  units=2
        10:00   acme calls 10  account=bolt  env=test  units=15
        11T09:00  acme calls 4  account=acme  env=live  units=7
    """)
    ledger.given("".join(f"11T09:00  other{number} calls 3  env=live  units=3 account=x\n" for number in range(others)))
    ledger.given(f"change  calls  {words}  from=11")
    ledger.given("close acme calls 09 12  at=12T02:00")
    ledger.given("".join(f"close other{number} calls 09 12\n" for number in range(others)))
    assert ledger.adjustments("calls") == []
    ledger.given(f"change  calls  {words}")
    by_rules = [line for line in ledger.adjustments("calls") if line.startswith("acme")]
    assert by_rules == [f"acme 09: +0, by the rules in force {difference:+}"]


def test_rules_that_are_in_force_again_make_no_difference(ledger: Ledger) -> None:
    """A change and its undoing are two revisions with the rules of the closing, part by part."""
    ledger.given("""
        meter   calls  sum
        09:00   acme calls 1   env=live
        11T09:00  acme calls 10  env=test
        change  calls  sum where env=live  from=11
        close   acme calls 09 12  at=12T02:00
        change  calls  sum
    """)
    assert ledger.adjustments("calls") == ["acme 09: +0, by the rules in force +10"]
    ledger.given("change  calls  sum where env=live  from=11")
    assert ledger.adjustments("calls") == []


def test_usage_that_a_rule_change_moves_to_another_customer_is_a_rules_difference(ledger: Ledger) -> None:
    """Of the customer whose closing has it; for the other one it is open, and would be billed twice."""
    ledger.given("""
        meter   calls  sum
        09:00   acme calls 10  account=bolt
        11T09:00  acme calls 1   account=acme
        change  calls  sum  customer=account  from=11
        close   acme calls 09 12  at=12T02:00
        change  calls  sum  customer=account
    """)
    assert ledger.closed_periods("calls") == ["acme 09: 11"]
    assert ledger.adjustments("calls") == ["acme 09: +0, by the rules in force -10"]
    assert ledger.roll_forwards("calls") == ["acme 09: 11, by_rules -10, now 11"]
    (period,) = ledger.metering.periods.list("calls")
    (status,) = ledger.metering.periods.status(period.start, period.end).meters
    assert [(usage.customer, usage.value) for usage in status.unbilled] == [("bolt", 10)]


@pytest.mark.parametrize("others", [0, 20], ids=["one closing", "many closings"])
def test_the_rules_difference_is_that_of_the_range_of_the_closing(ledger: Ledger, others: int) -> None:
    """Windows that it begins or ends in are cut: the rest of their usage belongs to the periods before and after."""
    ledger.given("""
        meter  calls  sum
        09T11:00  acme calls 1
        09T13:00  acme calls 2
        10:00     acme calls 4
        11:00     acme calls 8
        11T11:00  acme calls 16
        11T13:00  acme calls 32
    """)
    ledger.given("".join(f"10:00  other{number} calls 3\n" for number in range(others)))
    ledger.given("close acme calls 09T12:00 11T12:00  at=12T14:00")
    ledger.given("".join(f"close other{number} calls 09T12:00 11T12:00\n" for number in range(others)))
    ledger.given("change calls  sum per day")
    assert ledger.closed_periods("calls")[0] == "acme 09: 30"
    assert ledger.adjustments("calls") == ["acme 09: +0, by the rules in force -20"]
    (status,) = ledger.metering.periods.status(moment("09"), moment("12")).meters
    assert [usage.value for usage in status.unbilled if usage.customer == "acme"] == [32]
    ledger.then(total="acme calls 42", between="09 12")
