"""Operations on usage: record meter events, duplicates and conflicts, and cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tallybook.application import Cancellation, Metering, Receipt

from .model import CANCEL_WINDOW, EventInput, LedgerModel, Row
from .outcomes import OperationResult

MAX_IDENTIFIER_LENGTH = 100

ExpectedOutcome = tuple[str, int | None]
"""The outcome, or the code of an error; and the position of an event that was recorded before."""


@dataclass(frozen=True)
class Record:
    """Records one meter event, or several in one transaction."""

    events: Sequence[EventInput]

    def __str__(self) -> str:
        return "record " + "; ".join(
            f"{event.event_name!r:.20} {_shown(event.identifier)} {event.timestamp:%d %H:%M}"
            if event.timestamp
            else f"{event.event_name!r:.20} {_shown(event.identifier)} now"
            for event in self.events
        )

    def run(self, metering: Metering) -> Sequence[Receipt]:
        """Record the events."""
        if len(self.events) > 1:
            return metering.record_many([event.arguments for event in self.events])
        single_event = self.events[0]
        payload = dict(single_event.payload)
        return [
            metering.record(
                single_event.event_name, payload, identifier=single_event.identifier, timestamp=single_event.timestamp
            )
        ]

    def check(self, result: OperationResult) -> None:
        """Check each receipt against the model, and that all accepted events of a batch are stored, or none."""
        expected_outcomes = [self._expected_outcomes(result.model, head, now) for head, now in result.visible_states]
        allowed = [
            set[ExpectedOutcome]().union(*(outcomes[number] for outcomes in expected_outcomes))
            for number in range(len(self.events))
        ]
        for row in result.written_rows:
            is_ours = row.topic == "UsageRecorded" and row.recorded_at in result.moments
            event = self._event_of(row) if is_ours else None
            result.expect(event, "a stored row was not submitted", row=row)
            assert event is not None
            codes = [
                result.model.rejection_codes(event, row.position - 1, decided_at)
                for decided_at in result.decision_times(row)
            ]
            result.expect(not all(codes), "stored, but must be rejected at its position", row=row, codes=codes)
        if result.was_interrupted:
            self._check_atomicity(result, allowed)
        elif result.error is not None:
            result.expect_error({"duplicate_meter_event" if code == "conflict" else code for code, _ in allowed[0]})
        else:
            self._check_receipts(result, allowed)

    def _check_atomicity(self, result: OperationResult, allowed: list[set[ExpectedOutcome]]) -> None:
        minimum = sum(outcomes == {("accepted", None)} for outcomes in allowed)
        maximum = sum(("accepted", None) in outcomes for outcomes in allowed)
        result.expect(
            not result.written_rows or minimum <= len(result.written_rows) <= maximum,
            "only part of a batch is stored",
            written=result.written_rows,
        )

    def _check_receipts(self, result: OperationResult, allowed: list[set[ExpectedOutcome]]) -> None:
        written = {row.position: row for row in result.written_rows}
        for receipt, event, outcomes in zip(result.value, self.events, allowed, strict=True):
            actual = receipt.error.code if receipt.outcome == "rejected" else str(receipt.outcome)
            if actual == "accepted":
                row = written.pop(receipt.position, None)
                is_stored = row is not None and row.identifier == receipt.identifier and event.matches(row)
                result.expect(is_stored, "an accepted event is not stored", receipt=receipt, row=row)
                result.expect(
                    ("accepted", None) in outcomes, "accepted, but must be rejected", event=event, allowed=outcomes
                )
                continue
            written_positions = {row.position for row in result.written_rows if row.identifier == receipt.identifier}
            is_allowed = (actual, None if receipt.position in written_positions else receipt.position) in outcomes
            result.expect(is_allowed, "unexpected receipt", receipt=receipt, allowed=outcomes, event=event)
        result.expect(not written, "rows without a receipt were written", rows=written)

    def _expected_outcomes(self, model: LedgerModel, head: int, now: datetime) -> list[set[ExpectedOutcome]]:
        """Return the allowed outcomes of each event for a ledger at `head` at a time.

        The position of a duplicate within the batch is that of its first event, which isn't known yet: None.
        """
        outcomes: list[set[ExpectedOutcome]] = []
        fresh: dict[str, EventInput] = {}
        for event in self.events:
            identifier, codes = event.identifier or "", model.rejection_codes(event, head, now)
            existing = model.event_row(identifier, head) if identifier else None
            if len(identifier) > MAX_IDENTIFIER_LENGTH:
                outcomes.append({("invalid_identifier", None)})
            elif existing is not None:
                outcomes.append({("duplicate" if event.matches(existing) else "conflict", existing.position)})
            elif identifier in fresh:
                outcomes.append({("duplicate" if _is_duplicate(event, fresh[identifier], now) else "conflict", None)})
            elif codes:
                outcomes.append({(code, None) for code in codes})
            else:
                outcomes.append({("accepted", None)})
                if identifier:
                    fresh[identifier] = event
        return outcomes

    def _event_of(self, row: Row) -> EventInput | None:
        return next(
            (event for event in self.events if event.identifier in (None, row.identifier) and event.matches(row)), None
        )


def _shown(identifier: str | None) -> str:
    """Return an identifier in a trace. The ledger generates others in each run, and a trace is always the same."""
    is_generated = identifier is not None and len(identifier) == len(str(UUID(int=0)))
    return "generated" if is_generated else f"{identifier!r:.12}"


def _is_duplicate(event: EventInput, first: EventInput, now: datetime) -> bool:
    return (event.event_name, event.payload) == (first.event_name, first.payload) and (
        event.timestamp is None or event.timestamp == (first.timestamp or now)
    )


@dataclass(frozen=True)
class Cancel:
    """Cancels a meter event."""

    event_name: str
    identifier: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"cancel {self.event_name!r:.20} {_shown(self.identifier)}"

    def run(self, metering: Metering) -> Cancellation:
        """Cancel the event."""
        return metering.cancel(self.event_name, self.identifier, reason=self.reason)

    def check(self, result: OperationResult) -> None:
        """Check that it is cancelled once, in time and under its meter; later calls return the first cancellation."""
        allowed = {self._expected_outcome(result.model, head, now) for head, now in result.visible_states}
        result.expect(len(result.written_rows) <= 1, "a cancellation must write one row", written=result.written_rows)
        if result.written_rows:
            (row,) = result.written_rows
            event_row = result.model.event_row(self.identifier, row.position)
            expected_codes = {
                self._expected_outcome(result.model, row.position - 1, decided_at)
                for decided_at in result.decision_times(row)
            }
            result.expect(
                "cancelled" in expected_codes and row.recorded_at in result.moments,
                "cancelled, but must be rejected",
                row=row,
            )
            expected = {
                **(event_row.fields if event_row else {}),
                "topic": "EventCancelled",
                "stream": f"event/{self.identifier}",
                "recorded_at": row.fields["recorded_at"],
                "reason": self.reason,
                "recorded_position": event_row.position if event_row else 0,
            }
            result.expect_rows(expected)
        if result.was_interrupted:
            return
        if result.error is not None:
            result.expect_error(allowed - {"cancelled", "cancelled before"})
            return
        row = result.model.cancellation_row(self.identifier, result.model.head)
        result.expect(row, "the cancellation is not stored", allowed=allowed)
        assert row is not None
        # The stored time is later if other processes recorded since this one read its clock.
        is_first = result.value.cancelled_at <= row.recorded_at and result.value.reason == row.fields["reason"]
        result.expect(is_first, "the result is not the first cancellation", context=result.value, row=row)
        result.expect(
            result.written_rows or "cancelled before" in allowed, "cancelled, but no row was written", allowed=allowed
        )

    def _expected_outcome(self, model: LedgerModel, head: int, now: datetime) -> str:
        event_row = model.event_row(self.identifier, head)
        if event_row is None:
            return "invalid_cancel_configuration" if self.event_name in model.meters(head) else "no_meter"
        if event_row.fields["event_name"] != self.event_name:
            return "invalid_cancel_configuration"
        if model.cancellation_row(self.identifier, head) is not None:
            return "cancelled before"
        return "cancelled" if now - event_row.recorded_at <= CANCEL_WINDOW else "invalid_cancel_configuration"
