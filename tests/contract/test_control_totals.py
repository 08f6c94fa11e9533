"""Verification compares the control totals of billing runs with the closings and the usage."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
from tallybook.application import ControlTotalDifference, Metering
from tallybook.application.commands.run_closings import MeterRun
from tallybook.domain.billing_run import ControlTotal

from ..notation import Clock
from .histories import END, START
from .persistent_stores import PersistentStore
from .stores import ANY_TIME

PERIOD = START, END - timedelta(hours=26)


def fill(metering: Metering) -> None:
    """Record usage of three customers on two meters, one of whom is closed before the run."""
    metering.meters.configure("calls", customer_key="customer")
    metering.meters.configure("peak", formula="max", event_time_window="day", customer_key="customer")
    for number in range(3):
        for event_name in ("calls", "peak"):
            metering.record(event_name, {"customer": f"c-{number}", "value": f"{number}.5"}, timestamp=START)
    metering.periods.close("calls", "c-0", *PERIOD)


def differing_runs(metering: Metering) -> list[ControlTotalDifference]:
    """Return what differs, and nothing but that."""
    verification = metering.verify()
    assert (verification.billing_runs, verification.is_equal) == (len(metering.periods.runs()), False)
    return list(verification.differing_runs)


def changed(state: bytes, change: Callable[[Any], object]) -> bytes:
    """Return the state of an event after a change."""
    fields = json.loads(state)
    change(fields)
    return json.dumps(fields, separators=(",", ":")).encode()


def test_each_figure_of_a_control_total_is_compared(persistent_store: PersistentStore) -> None:
    """The difference has the run, the meter and both control totals; so has one that is missing."""
    with persistent_store.metering() as metering:
        fill(metering)
        metering.periods.run(*PERIOD)
        metering.periods.reopen("calls", "c-1", *PERIOD, reason="after the run")
        metering.record("calls", {"customer": "c-1", "value": "4"}, timestamp=START)
        metering.periods.close("calls", "c-1", *PERIOD)
        assert (metering.verify().billing_runs, metering.verify().is_equal) == (1, True)
    ((state,),) = persistent_store.ledger_rows("SELECT state FROM stored_events WHERE topic = 'BillingRunClosed'")
    update = "UPDATE stored_events SET state = ? WHERE topic = 'BillingRunClosed'"
    compared = sorted(ControlTotal.model_fields.keys() - {"event_name", "not_closed", "late"})
    for name in compared:
        with_other = changed(state, lambda run, name=name: run["meters"][1].update({name: 9}))
        persistent_store.corrupt_ledger(update, with_other)
        with persistent_store.open() as metering:
            (difference,) = differing_runs(metering)
        assert difference.found is not None
        assert (difference.run, difference.event_name, getattr(difference.found, name)) == (1, "peak", 9)
        assert getattr(difference.expected, name) != 9
    persistent_store.corrupt_ledger(update, changed(state, lambda run: run["meters"].pop()))
    with persistent_store.open() as metering:
        (difference,) = differing_runs(metering)
        assert (difference.event_name, difference.found, difference.expected.customers) == ("peak", None, 3)


def test_a_closing_that_was_changed_after_the_run(persistent_store: PersistentStore) -> None:
    """It differs from its usage, and so does the control total."""
    with persistent_store.metering() as metering:
        fill(metering)
        metering.periods.run(*PERIOD)
    select = "SELECT position, state FROM stored_events WHERE topic = 'PeriodClosed' ORDER BY position"
    position, state = persistent_store.ledger_rows(select)[-1]
    persistent_store.corrupt_ledger(
        "UPDATE stored_events SET state = ? WHERE position = ?",
        changed(state, lambda closing: closing.update(billable="1000")), position,
    )  # fmt: skip
    with persistent_store.open() as metering:
        assert len(metering.verify().differing_periods) == 1
        (difference,) = differing_runs(metering)
        assert (difference.event_name, difference.found and difference.found.billable) == ("peak", Decimal("4.5"))


@pytest.mark.parametrize("is_before", [True, False], ids=["before it is read", "after it is read"])
def test_a_period_that_is_reopened_while_a_run_ends(persistent_store: PersistentStore, is_before: bool) -> None:
    """The run has the closing or not: both are right."""
    control_total = MeterRun.control_total

    def reopen(run: MeterRun, customers: set[str], closed_after: int) -> ControlTotal:
        total = control_total(run, customers, closed_after) if not is_before else None
        metering.periods.reopen(run.event_name, "c-2", *PERIOD, reason="meanwhile")
        return total or control_total(run, customers, closed_after)

    with persistent_store.metering() as metering:
        fill(metering)
        with patch.object(MeterRun, "control_total", reopen):
            result = metering.periods.run(*PERIOD)
        assert result.run.meters[0].customers == (2 if is_before else 3)
        assert metering.verify().is_equal


def test_a_run_reads_no_closings_of_earlier_periods(persistent_store: PersistentStore) -> None:
    """Of a year of a hundred thousand customers, it would read a million."""
    clock = Clock(START + timedelta(hours=26))
    with Metering.open(persistent_store.url, policy=ANY_TIME, clock=clock) as metering:
        metering.meters.configure("calls", customer_key="customer")
        for number in range(30):
            metering.record("calls", {"customer": f"c-{number}", "value": "1"}, timestamp=START)
        metering.periods.run(START, START + timedelta(days=1))
        clock.now += timedelta(days=1)
        metering.record("calls", {"customer": "c-3", "value": "1"}, timestamp=START + timedelta(days=1))
        recorder = metering.imports.ledger.ledger_recorder
        select_prefix_page, read = recorder.select_prefix_page, list[int]()

        def select(*arguments: Any) -> Any:
            page = select_prefix_page(*arguments)
            read.append(len(page))
            return page

        with patch.object(recorder, "select_prefix_page", select):
            run = metering.periods.run(START + timedelta(days=1), START + timedelta(days=2)).run
        assert (run.meters[0].customers, sum(read)) == (1, 1)
        assert metering.verify().is_equal
