"""A served ledger without a server, with a clock that the test controls."""

from collections.abc import Callable, Sequence
from copy import copy
from datetime import timedelta
from typing import Any, cast

import msgspec
from tallybook.application import Metering
from tallybook.application.interfaces.http.authentication import Authenticator
from tallybook.application.interfaces.http.ledgers import ServedLedger
from tallybook.application.interfaces.http.rejected_events import rejected_event
from tallybook.application.interfaces.http.settings import WebhookSettings
from tallybook.application.interfaces.http.webhooks.events import THIN_TYPES, EventV2, list_newest
from tallybook.domain.meter_event_input import MeterEventInput

from tests.notation import Clock

SETTINGS = WebhookSettings()


def serve_ledger(metering: Metering) -> ServedLedger:
    """Return the live ledger of a Metering."""
    return ServedLedger(metering, Authenticator(metering), livemode=True)


def advance_clock(served_ledger: ServedLedger, **duration: float) -> None:
    """Advance the clock."""
    cast(Clock, served_ledger.metering.clock).now += timedelta(**duration)


def record_rejected(
    served_ledger: ServedLedger,
    *identifiers: str,
    event_name: str = "tokens",
    value: str = "much",
    key_id: str = "key",
) -> None:
    """Record events of a stream that are rejected."""
    event_inputs = [
        MeterEventInput(event_name, {"customer": "a", "value": value}, identifier, None) for identifier in identifiers
    ]

    def attach(receipts: Sequence[Any], at: Any) -> Any:
        log.begin()
        return [
            entry
            for event_input, receipt in zip(event_inputs, receipts, strict=True)
            if receipt.error is not None
            for entry in log.entries_for(rejected_event(event_input, receipt.error, key_id, "req_1", None), at)
        ]

    log = served_ledger.rejected_events
    served_ledger.metering.record_many(event_inputs, attach=attach)
    log.commit(served_ledger.now())


class InterruptedLedger:
    """A served ledger that runs an action directly before each of its writes, once each."""

    def __init__(self, served_ledger: ServedLedger) -> None:
        self.served_ledger = serve_ledger(served_ledger.metering)
        self.before_change: list[Callable[[], object]] = []
        change = self.served_ledger.key_values.apply
        key_values = copy(self.served_ledger.key_values)

        def apply_and_interrupt(**kwargs: Any) -> None:
            if self.before_change:
                self.before_change.pop()()
            change(**kwargs)

        key_values.apply = apply_and_interrupt  # type: ignore[method-assign]
        self.served_ledger.key_values = key_values


def thin_events(served_ledger: ServedLedger) -> list[EventV2]:
    """Return all thin events, oldest first."""
    rows, has_more = list_newest(served_ledger.key_values, THIN_TYPES, 1_000)
    assert not has_more
    return [msgspec.json.decode(row.body, type=EventV2) for row in reversed(rows)]


def sample_identifiers(event: EventV2) -> list[str]:
    """Return the identifiers of the samples of a report."""
    assert event.data is not None
    errors: list[Any] = event.data["reason"]["error_types"]
    return [sample["meter_event_error"]["identifier"] for error in errors for sample in error["sample_errors"]]


def error_count(event: EventV2) -> int:
    """Return the number of errors of a report."""
    assert event.data is not None
    return event.data["reason"]["error_count"]
