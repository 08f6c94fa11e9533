"""Whatever a store fails at, and however: what was acknowledged is there, once; what failed is whole or not at all.

TALLYBOOK_TEST_FAULTS=all fails every work at each of its statements, on each store; by default, long works at some.
"""

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError

from ..postgres import Database
from ..simulate.model import Row
from ..simulate.patches import short_lock_timeout, small_pages
from ..simulate.stores import CONFIGURED_DATABASES, LedgerLocation
from .fault_injector import KILLED_STATUS, FaultInjector
from .locations import STORES
from .operations import NOW, OPERATIONS, Operation, query_results
from .statements import observe_statements

FAILURE_MODES = ("once", "from then on", "answer lost", "killed", "killed after a commit")
ON_POSTGRES = {
    "record many":      "cut off, answer lost, killed",
    "cancel":           "cut off, answer lost, killed after a commit",
    "catch up":         "once, cut off",
    "close a period":   "from then on, answer lost, killed",
    "change rules":     "once, cut off, answer lost, killed",
    "promote":          "cut off, killed after a commit",
    "verify":           "once",
}  # fmt: skip
"""What is tried by default where all of it takes long."""
EVERY_STATEMENT = os.environ.get("TALLYBOOK_TEST_FAULTS") == "all"
CASES = [
    (store, work, way)
    for store in STORES
    for work in OPERATIONS
    for way in (*FAILURE_MODES, *(["cut off"] if store == "postgres" else []))
    if EVERY_STATEMENT or store == "sqlite" or way in ON_POSTGRES.get(work.name, "").split(", ")
]


@pytest.fixture(autouse=True)
def _small_pages_and_short_timeouts(postgres: Database) -> Iterator[None]:
    """Pages are small, so that there are several; and nobody waits long for what is held by who failed."""
    if not CONFIGURED_DATABASES:
        CONFIGURED_DATABASES.append(postgres)
    with small_pages(), short_lock_timeout():
        yield


@pytest.mark.parametrize(("store", "operation", "failure_mode"), CASES, ids=str)
def test_failing_at_the_nth_statement(store: str, operation: Operation, failure_mode: str) -> None:
    """At the first, the second, and so on, until the work runs through without meeting the fault.

    What was done before isn't touched, and done again with the store well, the work has done what it should.
    """
    attempt = attempt_in_child if failure_mode.startswith("killed") else attempt_in_process
    with STORES[store](operation) as copies:
        with copies() as location:
            rows = location.rows(0)
            expected = run_without_faults(location, operation)
        fault_count = 0
        for at in statements(store):
            with copies() as location:
                is_met = attempt(location, operation, FaultInjector(failure_mode, at), [rows, expected[0]])
                assert run_without_faults(location, operation) == expected, f"done again after statement {at}"
            if not is_met:
                break
            fault_count += 1
    assert fault_count, "the work has no such statement"


def statements(store: str) -> Iterator[int]:
    """Numbers of statements to fail at, without end: each one, or, by default, some."""
    if EVERY_STATEMENT:
        return count(1)
    if store == "sqlite":
        return (at for at in count(1) if at <= 8 or not at % 12)
    return (2**power for power in count(0))


def attempt_in_process(
    location: LedgerLocation, operation: Operation, fault: FaultInjector, allowed: list[list[Row]]
) -> bool:
    """Do the work on a store that fails, then again on one that has recovered, without opening it anew."""
    with observe_statements(fault), location.open(lambda: NOW) as metering:
        with fault.armed():
            is_done = try_operation(lambda: run_and_check(operation, metering), ["ledger_unavailable"])
        check(location, is_done, fault, allowed)
        if fault.was_reached:
            try_operation(lambda: run_and_check(operation, metering), operation.expected_errors)
            assert location.rows(0) == allowed[-1], f"done again at once after statement {fault.fail_at}"
    return fault.was_reached


def attempt_in_child(
    location: LedgerLocation, operation: Operation, fault: FaultInjector, allowed: list[list[Row]]
) -> bool:
    """Do the work in a process that is killed at a statement."""
    child = os.fork()
    if not child:
        try:
            with observe_statements(fault), location.open(lambda: NOW) as metering, fault.armed():
                operation.run(metering)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED_STATUS)
    fault.was_reached = code == KILLED_STATUS
    check(location, not fault.was_reached, fault, allowed)
    return fault.was_reached


def check(location: LedgerLocation, is_done: bool, fault: FaultInjector, allowed: list[list[Row]]) -> None:
    """What was acknowledged is there; what was not is there wholly or not at all."""
    assert is_done or fault.was_reached
    rows = location.rows(0)
    assert rows in (allowed[-1:] if is_done else allowed), f"after statement {fault.fail_at}"


def run_and_check(operation: Operation, metering: Metering) -> None:
    """Do the work, which gives what it should if it gives anything."""
    result = operation.run(metering)
    assert operation.is_expected(result), result


def try_operation(operation: Callable[[], Any], expected_errors: Any) -> bool:
    """Whether something was done; otherwise it must have been refused with one of some codes."""
    try:
        operation()
    except TallybookError as error:
        if error.code not in expected_errors:
            raise
        return False
    return True


def run_without_faults(location: LedgerLocation, operation: Operation) -> tuple[list[Row], list[object]]:
    """Do the work with nothing going wrong; give all rows and all answers, which a fresh fold must give too."""
    with location.open(lambda: NOW) as metering:
        try_operation(lambda: run_and_check(operation, metering), operation.expected_errors)
        assert metering.verify().is_equal
        return location.rows(0), query_results(metering)
