"""Attached key-value entries are stored in the transaction of their meter events, whatever statement fails."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import count

import pytest
from tallybook.application import KeyValueEntry, Metering, Receipt, TallybookError

from ..postgres import Database
from ..simulate.patches import short_lock_timeout
from ..simulate.stores import CONFIGURED_DATABASES
from .fault_injector import FaultInjector
from .locations import STORES
from .operations import NOW, Operation, meter_event
from .statements import observe_statements


def set_up_ledger(metering: Metering) -> None:
    """Create a ledger with one meter event and two entries."""
    metering.meters.configure("tokens", customer_key="customer", dimension_keys=["region"])
    metering.record_many([meter_event(1)])
    metering.key_value_store().apply(
        insert=[KeyValueEntry("delivery", "1", 1, b""), KeyValueEntry("delivery", "2", 2, b"")]
    )


def attach_entries(receipts: Sequence[Receipt], now: datetime) -> list[KeyValueEntry]:
    """Return the entries that a server attaches: a response and a delivery."""
    positions = [receipt.position for receipt in receipts]
    return [KeyValueEntry("answer", "key", 5, f"{positions}".encode()), KeyValueEntry("delivery", "3", 3, b"")]


def change_entries(metering: Metering) -> None:
    """Insert, update and delete entries in one transaction."""
    metering.key_value_store().apply(
        insert=[KeyValueEntry("delivery", "4", 4, b"")],
        upsert=[KeyValueEntry("delivery", "1", 9, b"again")],
        delete=[("delivery", "2")],
    )


OPERATIONS: dict[str, Callable[[Metering], object]] = {
    "with events": lambda metering: metering.record_many([meter_event(2), meter_event(3)], attach=attach_entries),
    "with a duplicate": lambda metering: metering.record_many([meter_event(1)], attach=attach_entries),
    "without events": change_entries,
}
CASES = [
    (store, mode)
    for store in STORES
    for mode in ("once", "response lost", *(["connection lost"] if store == "postgres" else []))
]


@pytest.fixture(autouse=True)
def _short_lock_timeout(postgres: Database) -> Iterator[None]:
    """Set short lock timeouts, so that no call waits long for the lock of a failed operation."""
    if not CONFIGURED_DATABASES:
        CONFIGURED_DATABASES.append(postgres)
    with short_lock_timeout():
        yield


def stored_state(metering: Metering) -> object:
    """Return all meter events and entries."""
    rows = [row for kind in ("answer", "delivery") for row in metering.key_value_store().scan(kind, limit=10)]
    return [event.identifier for event in metering.events("tokens")], rows


@pytest.mark.parametrize("operation_name", OPERATIONS)
@pytest.mark.parametrize(("store", "failure_mode"), CASES)
def test_a_failed_change_is_stored_completely_or_not_at_all(store: str, failure_mode: str, operation_name: str) -> None:
    """Each statement fails in turn. A caller never takes its own entries for those of another caller.

    On PostgreSQL, the store finds the transaction of a commit whose response was lost.
    """
    operation, fault_count = OPERATIONS[operation_name], 0
    with STORES[store](Operation(operation_name, operation, set_up=set_up_ledger)) as copies:
        with copies() as location, location.open(lambda: NOW) as metering:
            before = stored_state(metering)
            operation(metering)
            after = stored_state(metering)
        for at in count(1):
            fault = FaultInjector(failure_mode, at)
            with copies() as location, observe_statements(fault), location.open(lambda: NOW) as metering:
                with fault.armed():
                    is_done = succeeds(lambda metering=metering: operation(metering))
                actual = stored_state(metering)
                assert actual == after if is_done else actual in (before, after), f"after statement {at}"
                assert is_done or store == "sqlite" or failure_mode == "once"
            if not fault.was_reached:
                break
            fault_count += 1
    assert fault_count > (failure_mode != "response lost")


def succeeds(operation: Callable[[], object]) -> bool:
    """Return whether an operation succeeds; the only error allowed is `ledger_unavailable`."""
    try:
        operation()
    except TallybookError as error:
        if error.code != "ledger_unavailable":
            raise
        return False
    return True
