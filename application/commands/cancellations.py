"""Cancels a meter event, and revokes a cancellation."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from eventsourcing.persistence import IntegrityError

from ...domain.acceptance_policy import AcceptancePolicy
from ...domain.errors import InvalidCancellation
from ...domain.meter_event import Cancellation, MeterEvent, Revocation
from ...domain.timestamps import ensure_utc
from ..ledger.ledger import Ledger
from ..validation import optional_note, require_event_name, require_text

Change = TypeVar("Change", Cancellation, Revocation)


class CancellationCommands:
    """Cancels single meter events. See bulk_cancellations.py for those that are selected by a query."""

    def __init__(self, ledger: Ledger, policy: AcceptancePolicy, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.policy = policy
        self.clock = clock

    def cancel(self, event_name: str, identifier: str, reason: str | None, by: str | None) -> Cancellation:
        """Cancel the meter event with this identifier. Returns the first cancellation if it is cancelled already."""
        event_name = require_event_name(event_name)
        reason, by = optional_note(reason, "reason"), optional_note(by, "by")

        def cancel(meter_event: MeterEvent, position: int) -> Cancellation:
            return meter_event.cancel(
                event_name, recorded_position=position, at=self._now(), policy=self.policy, reason=reason, by=by
            )

        return self._change(event_name, identifier, cancel)

    def revoke(self, event_name: str, identifier: str, reason: str, by: str | None) -> Revocation:
        """Revoke the cancellation of the meter event with this identifier. Returns the revocation if it is revoked."""
        event_name = require_event_name(event_name)
        reason, by = require_text(reason, "reason", 500), optional_note(by, "by")

        def revoke_cancel(meter_event: MeterEvent, position: int) -> Revocation:
            return meter_event.revoke_cancel(
                event_name, recorded_position=position, at=self._now(), policy=self.policy, reason=reason, by=by
            )

        return self._change(event_name, identifier, revoke_cancel)

    def _change(self, event_name: str, identifier: str, change: Callable[[MeterEvent, int], Change]) -> Change:
        """Change the meter event with this identifier, given its position. Raises InvalidCancellation."""
        identifier = require_text(identifier, "identifier", 100)
        while True:
            stored = self.ledger.meter_event(identifier)
            if stored is None:
                self.ledger.meter(event_name)
                raise InvalidCancellation(
                    f"No meter event is recorded under the identifier {identifier!r}.",
                    field="identifier",
                    value=identifier,
                )
            meter_event, position = stored
            result = change(meter_event, position)
            try:
                self.ledger.append(meter_event.collect_events())
            except IntegrityError:
                continue  # another process changed it in between: decide again
            return result

    def _now(self) -> datetime:
        return ensure_utc(self.clock(), "clock")
