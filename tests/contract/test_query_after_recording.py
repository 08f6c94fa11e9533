"""A query after a recording of the same process starts with the page of its events, whatever happened in between."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal

import pytest
from tallybook.application import Metering
from tallybook.application.ledger.ledger import Ledger

from .persistent_stores import PersistentStore
from .stores import NOW

RANGE = NOW - timedelta(days=1), NOW + timedelta(days=1)
Meanwhile = Callable[[PersistentStore, Metering, Metering], object]


def record(metering: Metering, count: int = 1) -> None:
    """Record events with the value 2."""
    event = {"event_name": "tokens", "payload": {"customer": "acme", "value": "2"}, "timestamp": NOW}
    metering.record_many([event] * count)


def quantity(metering: Metering) -> Decimal:
    """Return the customer's quantity."""
    return metering.total("tokens", "acme", *RANGE).value


def change_rules(metering: Metering) -> None:
    """Count events instead of adding their values."""
    metering.rules.change("tokens", {"formula": "count"}, reason="a test")


MEANWHILE: Mapping[str, tuple[Meanwhile, int]] = {
    "nothing": (lambda _store, _metering, _other: None, 4),
    "another process records": (lambda _store, _metering, other: record(other), 6),
    "another process records many events": (lambda _store, _metering, other: record(other, 60), 124),
    "this process records many events": (lambda _store, metering, _other: record(metering, 60), 124),
    "another process projects the event": (lambda _store, _metering, other: quantity(other), 4),
    "the read models are deleted": (lambda store, _metering, _other: store.delete_read_models(), 4),
    "the rules change": (lambda _store, _metering, other: change_rules(other), 2),
}
"""By name, what happens between the recording and the query, and the quantity that the query returns."""


@pytest.mark.parametrize(("meanwhile", "expected"), MEANWHILE.values(), ids=MEANWHILE)
def test_it_has_every_event(persistent_store: PersistentStore, meanwhile: Meanwhile, expected: int) -> None:
    """Each counts once, under the current rules."""
    with persistent_store.metering() as metering, persistent_store.metering() as other:
        metering.meters.configure("tokens", customer_key="customer", value_key="value")
        record(metering)
        assert quantity(metering) == 2
        record(metering)
        meanwhile(persistent_store, metering, other)
        assert quantity(metering) == quantity(other) == expected
        record(metering)
        assert quantity(metering) == quantity(other) == expected + (1 if expected == 2 else 2)
        assert metering.verify().is_equal


def test_an_event_that_the_ledger_lost_is_not_missed(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has recorded it, and a backup from before was restored."""
    with persistent_store.metering() as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="value")
        record(metering)
        assert quantity(metering) == 2
        monkeypatch.setattr(Ledger, "recorded_head", property(lambda ledger: ledger.head() + 1))
        assert quantity(metering) == 2
        record(metering)
        assert quantity(metering) == 4
