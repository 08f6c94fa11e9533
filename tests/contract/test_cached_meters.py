"""The contract of meters that a process has in memory: what another process changes counts at once."""

from collections.abc import Callable

import pytest
from tallybook.application import Metering, Outcome
from tallybook.application.ledger.ledger import Ledger
from tallybook.domain import Meter
from tallybook.domain.errors import MeterInactive, MissingDimension, MissingValue

from .histories import START
from .stores import Store

Change = Callable[[Metering], object]


def record(metering: Metering, payload: dict[str, str]) -> Outcome:
    """Record a meter event of tokens."""
    return metering.record("tokens", payload, timestamp=START).outcome


def require_region(metering: Metering) -> None:
    """Change the rules so that each event has to have a region."""
    metering.rules.change("tokens", {"dimension_keys": ["region"]}, reason="prices differ")


def derive_a_meter(metering: Metering) -> None:
    """Derive a meter that reads another value."""
    metering.meters.configure("minutes", source="tokens", customer_key="customer", value_key="minutes")


USAGE = {"customer": "acme", "value": "1"}
USAGE_FOR_ALL_RULES = {**USAGE, "region": "eu", "minutes": "2"}
ACCEPTED_THEN_REJECTED: dict[str, tuple[Change, type[Exception]]] = {
    "deactivated": (lambda metering: metering.meters.deactivate("tokens"), MeterInactive),
    "other rules": (require_region, MissingDimension),
    "derived": (derive_a_meter, MissingValue),
}


@pytest.mark.parametrize("change", ACCEPTED_THEN_REJECTED)
def test_an_event_is_rejected_by_a_meter_that_another_process_has_changed(store: Store, change: str) -> None:
    """The meter in memory would accept it."""
    apply, error = ACCEPTED_THEN_REJECTED[change]
    with store.metering() as metering, store.metering() as other:
        metering.meters.configure("tokens", customer_key="customer")
        assert record(metering, USAGE_FOR_ALL_RULES) is Outcome.ACCEPTED
        apply(other)
        with pytest.raises(error):
            record(metering, USAGE)
        assert len(metering.events("tokens")) == 1


REJECTED_THEN_ACCEPTED: dict[str, tuple[dict[str, str], Change, Change]] = {
    "reactivated": (
        USAGE,
        lambda metering: metering.meters.deactivate("tokens"),
        lambda metering: metering.meters.reactivate("tokens"),
    ),
    "other rules": (
        {"customer": "acme"},
        lambda metering: None,
        lambda metering: metering.rules.change("tokens", {"formula": "count"}, reason="calls are counted"),
    ),
}


@pytest.mark.parametrize("change", REJECTED_THEN_ACCEPTED)
def test_an_event_is_accepted_by_a_meter_that_another_process_has_changed(store: Store, change: str) -> None:
    """The meter in memory would reject it."""
    payload, reject, accept = REJECTED_THEN_ACCEPTED[change]
    with store.metering() as metering, store.metering() as other:
        metering.meters.configure("tokens", customer_key="customer")
        reject(other)
        receipts = [metering.record_many([{"event_name": "tokens", "payload": payload, "timestamp": START}])[0]]
        accept(other)
        receipts += metering.record_many([{"event_name": "tokens", "payload": payload, "timestamp": START}])
        assert [receipt.outcome for receipt in receipts] == [Outcome.REJECTED, Outcome.ACCEPTED]


def test_a_meter_is_loaded_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it rejects an event: then it may have changed, and is loaded once more for the batch."""
    loaded: list[str] = []
    load = Ledger.meter

    def observed(ledger: Ledger, event_name: str, version: int | None = None, *, suggest: bool = True) -> Meter:
        loaded.append(event_name)
        return load(ledger, event_name, version, suggest=suggest)

    with store.metering() as metering:
        metering.meters.configure("tokens", customer_key="customer")
        monkeypatch.setattr(Ledger, "meter", observed)
        for _ in range(3):
            record(metering, USAGE)
        assert loaded == ["tokens"]
        rejected = {"event_name": "tokens", "payload": {"customer": "acme"}, "timestamp": START}
        metering.record_many([rejected, rejected])
        assert loaded == ["tokens", "tokens"]
