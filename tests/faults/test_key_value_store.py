"""What is kept goes with the events that it is about, whatever fails: both are there, or neither."""

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
    """One use, and two rows that are kept."""
    metering.meters.configure("tokens", customer_key="customer", dimension_keys=["region"])
    metering.record_many([meter_event(1)])
    metering.key_value_store().apply(
        insert=[KeyValueEntry("delivery", "1", 1, b""), KeyValueEntry("delivery", "2", 2, b"")]
    )


def attach_entries(receipts: Sequence[Receipt], now: datetime) -> list[KeyValueEntry]:
    """What a server keeps of an answer."""
    positions = [receipt.position for receipt in receipts]
    return [KeyValueEntry("answer", "key", 5, f"{positions}".encode()), KeyValueEntry("delivery", "3", 3, b"")]


def change_entries(metering: Metering) -> None:
    """Rows added, put and taken away at once."""
    metering.key_value_store().apply(
        insert=[KeyValueEntry("delivery", "4", 4, b"")],
        upsert=[KeyValueEntry("delivery", "1", 9, b"again")],
        delete=[("delivery", "2")],
    )


OPERATIONS: dict[str, Callable[[Metering], object]] = {
    "with events": lambda metering: metering.record_many([meter_event(2), meter_event(3)], attach=attach_entries),
    "with none that is new": lambda metering: metering.record_many([meter_event(1)], attach=attach_entries),
    "by itself": change_entries,
}
CASES = [
    (store, way) for store in STORES for way in ("once", "answer lost", *(["cut off"] if store == "postgres" else []))
]


@pytest.fixture(autouse=True)
def _short_lock_timeout(postgres: Database) -> Iterator[None]:
    """Nobody waits long for what is held by who failed."""
    if not CONFIGURED_DATABASES:
        CONFIGURED_DATABASES.append(postgres)
    with short_lock_timeout():
        yield


def stored_state(metering: Metering) -> object:
    """All that is recorded and kept."""
    rows = [row for kind in ("answer", "delivery") for row in metering.key_value_store().scan(kind, limit=10)]
    return [event.identifier for event in metering.events("tokens")], rows


@pytest.mark.parametrize("operation_name", OPERATIONS)
@pytest.mark.parametrize(("store", "failure_mode"), CASES)
def test_a_failed_change_is_stored_completely_or_not_at_all(store: str, failure_mode: str, operation_name: str) -> None:
    """At each statement in turn. Nobody takes what they kept themselves, just before, for somebody else's.

    On PostgreSQL a commit whose answer is lost is looked for, and found.
    """
    operation, fault_count = OPERATIONS[operation_name], 0
    with STORES[store](Operation(operation_name, operation, set_up=set_up_ledger)) as copies:
        with copies() as location, location.open(lambda: NOW) as metering:
            before = stored_state(metering)
            operation(metering)
            after = stored_state(metering)
        for at in count(1):
            failing = FaultInjector(failure_mode, at)
            with copies() as location, observe_statements(failing), location.open(lambda: NOW) as metering:
                with failing.armed():
                    is_done = succeeds(lambda metering=metering: operation(metering))
                actual = stored_state(metering)
                assert actual == after if is_done else actual in (before, after), f"after statement {at}"
                assert is_done or store == "sqlite" or failure_mode == "once"
            if not failing.was_reached:
                break
            fault_count += 1
    assert fault_count > (failure_mode != "answer lost")


def succeeds(operation: Callable[[], object]) -> bool:
    """Whether something is done rather than refused, which it is as unavailable."""
    try:
        operation()
    except TallybookError as error:
        if error.code != "ledger_unavailable":
            raise
        return False
    return True
