"""Billing runs on each store: one closing for each customer, and late usage as adjustments."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from unittest.mock import patch

import pytest
from tallybook.application import BillingRunInProgress, Metering, RunDifferenceReason
from tallybook.application.commands import run_closings
from tallybook.domain.errors import InvalidTimeRange, PeriodNotEnded, PeriodOverlaps

from .histories import END, METERS, START, record_history
from .stores import NOW, Store

PERIOD = START, END - timedelta(hours=26)
CUSTOMERS = 23


@contextmanager
def interrupted_after(batches: int) -> Generator[None]:
    """Interrupt a run before it stores another batch; each batch has five customers."""
    close_batch, stored = run_closings.MeterRun._close_batch, 0  # pyright: ignore[reportPrivateUsage]

    def close_or_interrupt(*arguments: object) -> None:
        nonlocal stored
        if stored == batches:
            raise KeyboardInterrupt
        stored += 1
        close_batch(*arguments)  # pyright: ignore[reportArgumentType]

    with (
        patch.object(run_closings, "CUSTOMERS_PER_TRANSACTION", 5),
        patch.object(run_closings.MeterRun, "_close_batch", close_or_interrupt),
    ):
        yield


def record_calls(metering: Metering, number: int, *, value: str = "2", at: datetime = START) -> None:
    """Record a call of a customer."""
    metering.record("calls", {"customer": f"customer {number}", "value": value}, timestamp=at)


@pytest.fixture
def calls(metering: Metering) -> Metering:
    """Return a ledger with a call of each of 23 customers."""
    metering.meters.configure("calls", customer_key="customer")
    for number in range(CUSTOMERS):
        record_calls(metering, number, value=f"{number}.5")
    return metering


def test_a_run_closes_each_customer_of_all_meters_as_close_does(store: Store) -> None:
    """Closings equal those by the same person one by one, also with windows and dimensions; control totals add up."""
    with store.metering() as metering:
        record_history(metering)
        result = metering.periods.run(*PERIOD, by="finance")
        assert (result.is_complete, result.differences, result.was_closed) == (True, (), False)
        assert [total.event_name for total in result.run.meters] == sorted(METERS)
        assert all(total.is_balanced for total in result.run.meters)
        for total in result.run.meters:
            closed = metering.periods.list(total.event_name)
            assert len(closed) == total.customers > 0
            assert {period.position for period in closed} == {result.run.position}
            for period in closed:
                metering.periods.reopen(total.event_name, period.customer, *PERIOD, reason="a test")
                again = metering.periods.close(total.event_name, period.customer, *PERIOD, by="finance")
                left = period.model_copy(update={"position": again.position, "closed_at": again.closed_at})
                assert left == again
        assert metering.verify().is_equal
        assert [run.closed_by for run in metering.periods.runs()] == ["finance"]


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_interrupted_run_is_resumed_as_of_its_position(calls: Metering, batches: int) -> None:
    """Usage that arrives in between is an adjustment, whether or not its customer was closed by then."""
    with pytest.raises(KeyboardInterrupt), interrupted_after(batches):
        calls.periods.run(*PERIOD)
    assert len(calls.periods.list("calls")) == batches * 5
    (run,) = calls.periods.runs()
    assert run.closed_at is None
    for number in (0, CUSTOMERS - 1, CUSTOMERS):
        record_calls(calls, number)
    with pytest.raises(BillingRunInProgress):
        calls.periods.run(*PERIOD, timezone="Europe/Berlin")
    result = calls.periods.run(*PERIOD)
    assert (result.run.position, result.run.meters[0].customers, result.difference_count) == (
        run.position,
        CUSTOMERS,
        0,
    )
    closed = calls.periods.list("calls")
    assert [period.customer for period in closed] == sorted(f"customer {number}" for number in range(CUSTOMERS))
    adjustments = calls.periods.adjustments("calls")
    assert [(found.period.customer, found.difference, found.is_late) for found in adjustments] == [
        ("customer 0", 2, False), ("customer 22", 2, False), ("customer 23", 2, True),
    ]  # fmt: skip
    assert calls.periods.run(*PERIOD) == result.__class__(result.run, was_closed=True)
    assert calls.periods.status(*PERIOD).is_complete
    assert calls.verify().is_equal


def test_a_meter_configured_after_a_run_is_closed_by_name(calls: Metering) -> None:
    """A run is one recorded fact, so the same call returns it; the status shows the usage of the other meter."""
    run = calls.periods.run(*PERIOD).run
    calls.meters.configure("pages", customer_key="customer")
    calls.record("pages", {"customer": "customer 1", "value": "3"}, timestamp=START)
    assert calls.periods.run(*PERIOD).run == run
    assert not calls.periods.status(*PERIOD).is_complete
    assert [total.customers for total in calls.periods.run(*PERIOD, meters=["pages"]).run.meters] == [1]
    assert calls.periods.status(*PERIOD).is_complete


def test_another_process_that_resumes_a_run_closes_no_customer_twice(calls: Metering, store: Store) -> None:
    """The first process finds the closings of the second one, and that the run is closed."""
    close_batch, done = run_closings.MeterRun._close_batch, False  # pyright: ignore[reportPrivateUsage]

    def close_after_other(*arguments: object) -> None:
        nonlocal done
        if not done:
            done = True
            calls.periods.run(*PERIOD)
        close_batch(*arguments)  # pyright: ignore[reportArgumentType]

    with patch.object(run_closings.MeterRun, "_close_batch", close_after_other):
        result = calls.periods.run(*PERIOD)
    assert result.run.meters[0].customers == CUSTOMERS
    assert len(calls.periods.list("calls", reopened=True)) == CUSTOMERS
    assert len(calls.periods.runs()) == 1


def test_differences_explain_what_is_not_in_the_closings(calls: Metering) -> None:
    """A customer closed before, one whose closing overlaps otherwise, and one that was late for the first run."""
    calls.periods.close("calls", "customer 0", *PERIOD)
    record_calls(calls, 0)
    calls.periods.close("calls", "customer 1", START, START + timedelta(days=1))
    result = calls.periods.run(*PERIOD, meters=["calls"])
    (total,) = result.run.meters
    assert not result.is_complete
    assert (total.customers, total.closed_before, total.not_closed, total.late) == (CUSTOMERS - 1, 1, 1, 0)
    assert (total.sum_difference, total.count_difference) == (Decimal("3.5"), 2)
    before, overlapping = result.differences
    assert (before.customer, before.reason, before.sum) == ("customer 0", RunDifferenceReason.CLOSED_BEFORE, 2)
    assert (overlapping.customer, overlapping.sum, overlapping.count) == ("customer 1", Decimal("1.5"), 1)
    assert isinstance(overlapping.error, PeriodOverlaps)
    record_calls(calls, CUSTOMERS)
    calls.periods.reopen("calls", "customer 1", START, START + timedelta(days=1), reason="a test")
    again = calls.periods.run(*PERIOD, meters=["calls"])
    (total,) = again.run.meters
    assert (again.run.number, again.is_complete, total.customers, total.late) == (2, True, CUSTOMERS, 1)
    assert [found.period.customer for found in calls.periods.adjustments("calls")] == ["customer 0", "customer 23"]


def test_customers_without_changes_are_not_read_for_adjustments(calls: Metering) -> None:
    """Of many closings, those with changes are found by the spans of changes, also at the edges of the range."""
    calls.periods.run(*PERIOD)
    for number, at in ((3, START), (5, PERIOD[1] - timedelta(seconds=1)), (7, PERIOD[1])):
        record_calls(calls, number, at=at)
    adjustments = calls.periods.adjustments("calls")
    assert [found.period.customer for found in adjustments] == ["customer 3", "customer 5"]
    calls.rules.change("calls", {"formula": "count"}, reason="a test")
    by_rules = calls.periods.adjustments("calls")
    assert len(by_rules) == CUSTOMERS
    assert {found.rules_difference for found in by_rules} == {
        found.rules_difference for number in range(CUSTOMERS)
        for found in calls.periods.adjustments("calls", f"customer {number}")
    }  # fmt: skip


def test_a_run_is_rejected_before_the_period_has_ended(calls: Metering) -> None:
    """Nothing is stored then."""
    for start, end, error in (
        (START, NOW + timedelta(days=1), PeriodNotEnded),
        (START, START, InvalidTimeRange),
        (END, START, InvalidTimeRange),
    ):
        with pytest.raises(error):
            calls.periods.run(start, end)
    assert calls.periods.runs() == []


def test_usage_that_a_rule_change_moved_to_another_customer_is_in_no_closing(metering: Metering) -> None:
    """The status shows it, although the closings of the former customers contain it."""
    metering.meters.configure("calls", customer_key="customer")
    for number in range(2):
        payload = {"customer": f"customer {number}", "value": "1", "org": "umbrella"}
        metering.record("calls", payload, timestamp=START)
    metering.periods.run(*PERIOD)
    assert metering.periods.status(*PERIOD).is_complete
    metering.rules.change("calls", {"customer_key": "org"}, reason="a test")
    (status,) = metering.periods.status(*PERIOD).meters
    (usage,) = status.unbilled
    assert (usage.customer, usage.value, usage.count, usage.reason) == ("umbrella", 2, 2, "open")


@pytest.mark.parametrize("is_recorded_late", [False, True])
@pytest.mark.parametrize("other_changes", [{}, {"customer_key": "org"}])
def test_usage_that_was_filtered_at_the_closing_is_open_once_it_counts(
    metering: Metering, is_recorded_late: bool, other_changes: dict[str, str]
) -> None:
    """It is in no closing and owed as no adjustment, so the status lists it, whenever it was recorded."""
    metering.meters.configure("calls", customer_key="customer", filter={"not": {"key": "kind", "equals": "test"}})
    metering.record("calls", {"customer": "acme", "org": "acme", "value": "5"}, timestamp=START)
    filtered = {"customer": "bolt", "org": "bolt", "value": "7", "kind": "test"}
    if not is_recorded_late:
        metering.record("calls", filtered, timestamp=START)
    metering.periods.run(*PERIOD)
    if is_recorded_late:
        metering.record("calls", filtered, timestamp=START)
    assert metering.periods.status(*PERIOD).is_complete
    metering.rules.change("calls", {"filter": None} | other_changes, reason="tests are billed")
    assert metering.periods.adjustments("calls") == []
    (status,) = metering.periods.status(*PERIOD).meters
    assert [(usage.customer, usage.value) for usage in status.unbilled] == [("bolt", 7)]
    assert (status.late_customers, status.open_customers) == (0, 1)


def test_time_zone_and_bounds_are_recorded(calls: Metering) -> None:
    """A run over a range that overlaps an earlier one otherwise closes no customer of that."""
    first = calls.periods.run(*PERIOD, timezone="Europe/Berlin")
    assert (first.run.start, first.run.end, first.run.timezone) == (*PERIOD, "Europe/Berlin")
    other = calls.periods.run(START, START + timedelta(days=2))
    assert other.run.meters[0].not_closed == CUSTOMERS
    assert (other.run.meters[0].customers, other.difference_count) == (0, CUSTOMERS)
