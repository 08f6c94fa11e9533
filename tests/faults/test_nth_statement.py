"""If any statement of a store fails, acknowledged operations are stored once, and failed ones completely or not at all.

TALLYBOOK_TEST_LONG=1 fails every statement of each operation, on each store; other runs fail a sample of them.
"""

import os
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError

from ..postgres import Database
from ..sampling import IS_LONG, sample
from ..simulate.model import Row
from ..simulate.patches import short_lock_timeout, small_pages
from ..simulate.stores import CONFIGURED_DATABASES, LedgerLocation
from .fault_injector import KILLED_STATUS, FaultInjector
from .locations import STORES
from .operations import NOW, OPERATIONS, Operation, query_results
from .statements import observe_statements

FAILURE_MODES = ("once", "permanently", "response lost", "killed", "killed after a commit")
ON_POSTGRES = {
    "record many":      "connection lost, response lost, killed",
    "cancel":           "connection lost, response lost, killed after a commit",
    "catch up":         "once, connection lost",
    "close a period":   "permanently, response lost, killed",
    "change rules":     "once, connection lost, response lost, killed",
    "promote":          "connection lost, killed after a commit",
    "verify":           "once",
}  # fmt: skip
"""The failure modes to test on PostgreSQL, where all of them take long."""
CASES = [
    (store, operation, mode)
    for store in STORES
    for operation in OPERATIONS
    for mode in (*FAILURE_MODES, *(["connection lost"] if store == "postgres" else []))
    if IS_LONG or store == "sqlite" or mode in ON_POSTGRES.get(operation.name, "").split(", ")
]


SAMPLES = {"sqlite": (1, 3, 1), "postgres": (1, 1, 1)}
"""How many of the first, middle and last statements of an operation fail; those in the middle change each day."""


@pytest.fixture(autouse=True)
def _short_timeouts(postgres: Database) -> Iterator[None]:
    """Set short timeouts for the locks of failed operations."""
    if not CONFIGURED_DATABASES:
        CONFIGURED_DATABASES.append(postgres)
    with short_lock_timeout():
        yield


@pytest.mark.parametrize(("store", "operation", "failure_mode"), CASES, ids=str)
def test_an_operation_survives_a_fault_at_any_statement(store: str, operation: Operation, failure_mode: str) -> None:
    """The nth statement of an operation on several small pages fails.

    Earlier rows do not change, and the operation succeeds when it is repeated without faults.
    """
    attempt = attempt_in_child if failure_mode.startswith("killed") else attempt_in_process
    with STORES[store](operation) as copies:
        with copies() as location:
            rows = location.rows(0)
            statement_count = count_statements(location, operation, failure_mode)
            expected = run_without_faults(location, operation)
        fault_count = 0
        for at in statements(store, statement_count):
            with copies() as location:
                was_reached = attempt(location, operation, FaultInjector(failure_mode, at), [rows, expected[0]])
                assert run_without_faults(location, operation) == expected, f"repeated after statement {at}"
            fault_count += was_reached
    assert fault_count, "the operation has no such statement"


def count_statements(location: LedgerLocation, operation: Operation, failure_mode: str) -> int:
    """Run the operation, and return the number of statements at which it can fail."""
    counter = FaultInjector(failure_mode, 0)
    with small_pages(), observe_statements(counter), location.open(lambda: NOW) as metering, counter.armed():
        run_and_check(operation, metering)
    return counter.count


def statements(store: str, statement_count: int) -> Collection[int]:
    """Return the numbers of the statements that fail."""
    every = range(1, statement_count + 1)
    first, middle, last = SAMPLES[store]
    if statement_count <= first + middle + last:
        return every
    return [*every[:first], *sample(every[first:-last], middle), *every[-last:]]


def attempt_in_process(
    location: LedgerLocation, operation: Operation, fault: FaultInjector, allowed: list[list[Row]]
) -> bool:
    """Run the operation on a failing store, then again after the fault, without reopening the ledger."""
    with small_pages(), observe_statements(fault), location.open(lambda: NOW) as metering:
        with fault.armed():
            is_done = try_operation(lambda: run_and_check(operation, metering), ["ledger_unavailable"])
        check(location, is_done, fault, allowed)
        if fault.was_reached:
            try_operation(lambda: run_and_check(operation, metering), operation.expected_errors)
            assert location.rows(0) == allowed[-1], f"repeated at once after statement {fault.fail_at}"
    return fault.was_reached


def attempt_in_child(
    location: LedgerLocation, operation: Operation, fault: FaultInjector, allowed: list[list[Row]]
) -> bool:
    """Run the operation in a process that is killed at a statement."""
    child = os.fork()
    if not child:
        try:
            with (
                small_pages(),
                observe_statements(fault),
                location.open(lambda: NOW) as metering,
                fault.armed(),
            ):
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
    """Check that an acknowledged operation is stored, and a failed one completely or not at all."""
    assert is_done or fault.was_reached
    rows = location.rows(0)
    assert rows in (allowed[-1:] if is_done else allowed), f"after statement {fault.fail_at}"


def run_and_check(operation: Operation, metering: Metering) -> None:
    """Run the operation, and check its result."""
    result = operation.run(metering)
    assert operation.is_expected(result), result


def try_operation(operation: Callable[[], Any], expected_errors: Any) -> bool:
    """Return whether an operation succeeds; raise its error unless the code is expected."""
    try:
        operation()
    except TallybookError as error:
        if error.code not in expected_errors:
            raise
        return False
    return True


def run_without_faults(location: LedgerLocation, operation: Operation) -> tuple[list[Row], list[object]]:
    """Run the operation without faults and verify the ledger; return all rows and all query results."""
    with location.open(lambda: NOW) as metering:
        try_operation(lambda: run_and_check(operation, metering), operation.expected_errors)
        assert metering.verify().is_equal
        return location.rows(0), query_results(metering)
