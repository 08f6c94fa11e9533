"""Changes of rules for tests: events incompatible with some rules, and an action directly before a change."""

from collections.abc import Callable

import pytest
from tallybook.application import Metering

from .histories import START

COMPLETE_PAYLOAD = {"customer": "acme", "value": "1", "tokens": "7", "region": "eu"}


def incomplete_event(number: int, payload: dict[str, str], event_name: str = "tokens") -> dict[str, object]:
    """Return a meter event whose payload is incompatible with some rules."""
    return {"event_name": event_name, "identifier": f"poor-{number}", "payload": payload, "timestamp": START}


def before_rules_change(metering: Metering, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Run an action once, directly before a promotion locks the ledger to change rules."""
    ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
    exclusive, once = ledger.exclusive, iter([action])

    def run_then_call() -> object:
        for pending_action in once:
            pending_action()
        return exclusive()

    monkeypatch.setattr(ledger, "exclusive", run_then_call)
