"""Billing runs of ranges that overlap, or that were taken back: late usage is owed, closed, or reported as open."""

from tallybook.application import BillingRunResult

from ..notation import Ledger, moment


def run(ledger: Ledger, start: str, end: str, meters: list[str] | None = None) -> BillingRunResult:
    """Run a billing run of some days of November, at noon of the 20th or later."""
    ledger.clock.now = max(ledger.clock.now, moment("20T12:00"))
    return ledger.metering.periods.run(moment(start), moment(end), meters=meters)


def differences(result: BillingRunResult) -> list[str]:
    """Return the differences of a run, each as "customer reason sum"."""
    return [f"{difference.customer} {difference.reason} {difference.sum}" for difference in result.differences]


def take_back(ledger: Ledger, start: str, end: str) -> None:
    """Reopen all closings of a range."""
    for period in ledger.metering.periods.list("calls", start=moment(start), end=moment(end)):
        ledger.given(f"reopen {period.customer} calls {start} {end} reason=wrong")


def unbilled(ledger: Ledger, start: str, end: str) -> list[str]:
    """Return the usage in no closing and no adjustment, each as "customer reason value"."""
    (status,) = ledger.metering.periods.status(moment(start), moment(end)).meters
    return [f"{usage.customer} {usage.reason} {usage.value}" for usage in status.unbilled]


def test_a_run_that_was_taken_back_has_billed_nothing(ledger: Ledger) -> None:
    """Late usage is an adjustment of the right run, also before it was run."""
    ledger.given("""
        meter  calls  sum
        12T10:00  acme calls 1
    """)
    run(ledger, "10", "13")
    take_back(ledger, "10", "13")
    run(ledger, "10", "20")
    ledger.given("18T10:00  bolt calls 100  id=late")
    assert ledger.adjustments("calls") == ["bolt 10: +100, late counted +100"]
    assert unbilled(ledger, "10", "20") == []
    take_back(ledger, "10", "20")
    assert ledger.adjustments("calls") == []
    assert unbilled(ledger, "10", "20") == ["acme open 1", "bolt open 100"]


def test_a_run_of_a_wrong_range_without_usage_gives_way(ledger: Ledger) -> None:
    """It has no closings that could be reopened."""
    ledger.given("""
        meter  calls  sum
        18T10:00  acme calls 1
    """)
    assert run(ledger, "10", "13").run.customers == 0
    ledger.given("12T10:00  core calls 7  id=early")
    assert ledger.adjustments("calls") == ["core 10: +7, early counted +7"]
    run(ledger, "10", "20")
    assert ledger.closed_periods("calls") == ["acme 10: 1", "core 10: 7"]
    ledger.given("18T10:00  bolt calls 100  id=late")
    assert ledger.adjustments("calls") == ["bolt 10: +100, late counted +100"]
    assert unbilled(ledger, "10", "20") == []


def test_a_run_closes_late_usage_that_no_adjustment_has(ledger: Ledger) -> None:
    """The run of the same range before has no late usage, because an earlier one overlaps it."""
    ledger.given("""
        meter  calls  sum
        12T10:00  acme calls 1
    """)
    run(ledger, "10", "13")
    ledger.given("18T10:00  core calls 10")
    assert differences(run(ledger, "10", "20")) == ["acme not_closed 1"]
    ledger.given("18T10:00  bolt calls 100")
    assert (ledger.adjustments("calls"), unbilled(ledger, "10", "20")) == ([], ["bolt open 100"])
    result = run(ledger, "10", "20")
    assert (differences(result), result.run.meters[0].late) == (["acme not_closed 1"], 0)
    assert ledger.closed_periods("calls") == ["acme 10: 1", "bolt 10: 100", "core 10: 10"]


def test_late_usage_of_a_customer_closed_otherwise_is_not_an_adjustment(ledger: Ledger) -> None:
    """It is in no closing, so the second run reports that it could not close it, and why."""
    ledger.given("""
        meter  calls  sum
        18T10:00  acme calls 1
    """)
    run(ledger, "10", "20")
    ledger.given("""
        12T10:00  bolt calls 5
        close     bolt calls 10 13
        18T11:00  bolt calls 100
        18T11:00  core calls 7  id=late
    """)
    assert differences(run(ledger, "10", "20", ["calls"])) == ["bolt not_closed 105", "core late 7"]
    assert ledger.adjustments("calls") == ["core 10: +7, late counted +7"]
    assert unbilled(ledger, "10", "20") == ["bolt partly_closed 100"]


def test_a_run_closes_usage_that_the_rules_of_the_earlier_run_filtered(ledger: Ledger) -> None:
    """It is no adjustment of that run, whenever it was recorded."""
    ledger.given("""
        meter  calls  sum where env=live
        12T10:00  acme calls 1  env=live
    """)
    run(ledger, "10", "20")
    ledger.given("""
        18T10:00  bolt calls 100  env=test
        18T10:00  core calls 7    env=live  id=late
        change calls  sum
    """)
    assert unbilled(ledger, "10", "20") == ["bolt open 100"]
    assert differences(run(ledger, "10", "20", ["calls"])) == ["core late 7"]
    assert ledger.closed_periods("calls") == ["acme 10: 1", "bolt 10: 100"]
    assert ledger.adjustments("calls") == ["core 10: +7, late counted +7"]
    assert unbilled(ledger, "10", "20") == []
