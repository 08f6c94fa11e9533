"""Operations on usage: reports are recorded, again and otherwise, and cancelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tallybook.application import Cancellation, Metering, Receipt

from .model import CANCEL_WINDOW, EventInput, LedgerModel, Row
from .outcomes import OperationResult

MAX_IDENTIFIER_LENGTH = 100

ExpectedOutcome = tuple[str, int | None]
"""Outcome, and position for what is known already; the code of a refusal in place of an outcome."""


@dataclass(frozen=True)
class Record:
    """One report, or several in one transaction."""

    events: Sequence[EventInput]

    def __str__(self) -> str:
        return "record " + "; ".join(
            f"{event.event_name!r:.20} {event.identifier!r:.12} {event.timestamp:%d %H:%M}"
            if event.timestamp
            else f"{event.event_name!r:.20} {event.identifier!r:.12} now"
            for event in self.events
        )

    def run(self, metering: Metering) -> Sequence[Receipt]:
        """Report it."""
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
        """Each report is answered as it must be, and what was accepted lies in the ledger, all of it or nothing."""
        expected_outcomes = [self._expected_outcomes(result.model, head, now) for head, now in result.visible_states]
        allowed = [
            set[ExpectedOutcome]().union(*(outcomes[number] for outcomes in expected_outcomes))
            for number in range(len(self.events))
        ]
        for row in result.written_rows:
            is_ours = row.topic == "UsageRecorded" and row.recorded_at in result.moments
            event = self._event_of(row) if is_ours else None
            result.expect(event, "a row that nobody reported", row=row)
            assert event is not None
            codes = result.model.rejection_codes(event, row.position - 1, row.recorded_at)
            result.expect(not codes, "stored, but was not acceptable any more", row=row, codes=codes)
        if result.was_interrupted:
            self._check_atomicity(result, allowed)
        elif result.error is not None:
            result.expect_error({"duplicate_meter_event" if code == "conflict" else code for code, _ in allowed[0]})
        else:
            self._check_receipts(result, allowed)

    def _check_atomicity(self, result: OperationResult, allowed: list[set[ExpectedOutcome]]) -> None:
        must = sum(outcomes == {("accepted", None)} for outcomes in allowed)
        may = sum(("accepted", None) in outcomes for outcomes in allowed)
        result.expect(
            not result.written_rows or must <= len(result.written_rows) <= may,
            "a batch is there in part",
            wrote=result.written_rows,
        )

    def _check_receipts(self, result: OperationResult, allowed: list[set[ExpectedOutcome]]) -> None:
        wrote = {row.position: row for row in result.written_rows}
        for receipt, event, outcomes in zip(result.value, self.events, allowed, strict=True):
            actual = receipt.error.code if receipt.outcome == "rejected" else str(receipt.outcome)
            if actual == "accepted":
                row = wrote.pop(receipt.position, None)
                is_there = row is not None and row.identifier == receipt.identifier and event.matches(row)
                result.expect(is_there, "what was accepted isn't there", receipt=receipt, row=row)
                result.expect(
                    ("accepted", None) in outcomes, "accepted, but must not be", report=event, allowed=outcomes
                )
                continue
            ours = {row.position for row in result.written_rows if row.identifier == receipt.identifier}
            is_right = (actual, None if receipt.position in ours else receipt.position) in outcomes
            result.expect(
                is_right, "answered otherwise than it must be", receipt=receipt, allowed=outcomes, report=event
            )
        result.expect(not wrote, "more was written than was acknowledged", rows=wrote)

    def _expected_outcomes(self, model: LedgerModel, head: int, now: datetime) -> list[set[ExpectedOutcome]]:
        """How each report may be answered by who sees the ledger up to `head` at a time.

        What is said again within the batch has the position of the first, which isn't known yet: None.
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


def _is_duplicate(event: EventInput, first: EventInput, now: datetime) -> bool:
    return (event.event_name, event.payload) == (first.event_name, first.payload) and (
        event.timestamp is None or event.timestamp == (first.timestamp or now)
    )


@dataclass(frozen=True)
class Cancel:
    """The cancel of a meter event."""

    event_name: str
    identifier: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"cancel {self.event_name!r:.20} {self.identifier!r:.12}"

    def run(self, metering: Metering) -> Cancellation:
        """Ask for it."""
        return metering.cancel(self.event_name, self.identifier, reason=self.reason)

    def check(self, result: OperationResult) -> None:
        """Cancelled once, in time, and under its own meter; the first cancellation is the answer for ever."""
        allowed = {self._expected_outcome(result.model, head, now) for head, now in result.visible_states}
        result.expect(len(result.written_rows) <= 1, "one cancel writes one row", wrote=result.written_rows)
        if result.written_rows:
            (row,) = result.written_rows
            event_row = result.model.event_row(self.identifier, row.position)
            expected_code = self._expected_outcome(result.model, row.position - 1, row.recorded_at)
            result.expect(
                expected_code == "cancelled" and row.recorded_at in result.moments,
                "cancelled, but must not be",
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
            result.expect_error(allowed - {"cancelled", "before"})
            return
        row = result.model.cancellation_row(self.identifier, result.model.head)
        result.expect(row, "what was cancelled isn't", allowed=allowed)
        assert row is not None
        is_first = (result.value.cancelled_at, result.value.reason) == (row.recorded_at, row.fields["reason"])
        result.expect(is_first, "another cancellation than the first is told", context=result.value, row=row)
        result.expect(result.written_rows or "before" in allowed, "cancelled, but nothing was written", allowed=allowed)

    def _expected_outcome(self, model: LedgerModel, head: int, now: datetime) -> str:
        event_row = model.event_row(self.identifier, head)
        if event_row is None:
            return "invalid_cancel_configuration" if self.event_name in model.meters(head) else "no_meter"
        if event_row.fields["event_name"] != self.event_name:
            return "invalid_cancel_configuration"
        if model.cancellation_row(self.identifier, head) is not None:
            return "before"
        return "cancelled" if now - event_row.recorded_at <= CANCEL_WINDOW else "invalid_cancel_configuration"
