"""The relay: decides what becomes of the waiting rows of an outbox, by recording their meter events."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from ...domain.authorship import OUTBOX, Author, current_author
from ...domain.errors import TallybookError
from ...domain.timestamps import ensure_utc
from ..commands.group_commit import may_be_caused_by_one
from ..commands.usage import UsageCommands
from ..results import Outcome, Receipt
from ..storage.outbox import Decisions, OutboxRow, OutboxTable, Rejection, from_text, to_text
from .results import RelayResult


class Relay:
    """Moves the waiting rows of an outbox into the ledger.

    The meter events are committed before their rows are deleted. If the relay dies in between, the next one records
    them again, and their identifiers make them duplicates, which are deleted too.
    """

    def __init__(self, usage: UsageCommands, clock: Callable[[], datetime]) -> None:
        self._usage = usage
        self._clock = clock

    def relay(self, table: OutboxTable, batch_size: int, stop: threading.Event | None) -> RelayResult:
        """Process the rows that wait now, in batches, and return what became of them.

        Rows that are committed meanwhile are left to the next call, so that it ends. It ends early when `stop` is set.
        """
        total, last = RelayResult(), table.last_waiting()
        if last is None:
            return total
        while stop is None or not stop.is_set():
            result = RelayResult()

            def decide(rows: Sequence[OutboxRow]) -> Decisions:
                nonlocal result
                decisions, result = self._decide(rows)
                return decisions

            row_count = table.process(last, batch_size, decide)
            total += result
            if row_count < batch_size:
                break
        return total

    def _decide(self, rows: Sequence[OutboxRow]) -> tuple[Decisions, RelayResult]:
        """Record the meter events of rows, and return what became of the rows, and the number by outcome."""
        receipts = self._record(rows)
        rejected_at = to_text(ensure_utc(self._clock(), "clock"))
        recorded: list[int] = []
        rejections: list[Rejection] = []
        for row, receipt in zip(rows, receipts, strict=True):
            if receipt.error is None:
                recorded.append(row.id)
            else:
                rejections.append(Rejection(receipt.error.code, receipt.error.message, rejected_at, row.id))
        new_count = sum(receipt.outcome is Outcome.ACCEPTED for receipt in receipts)
        result = RelayResult(new_count, len(recorded) - new_count, len(rejections))
        return Decisions(recorded, rejections), result

    def _record(self, rows: Sequence[OutboxRow]) -> Sequence[Receipt]:
        """Record the meter events of rows, each on its own if one of them may be why all of them fail."""
        meter_events: list[object] = []
        submitted_at: list[datetime] = []
        for row in rows:
            try:
                meter_events.append(row.meter_event())
                submitted_at.append(from_text(row.submitted_at))
            except TallybookError as error:  # another program wrote the row
                return [_rejected(row, error)] if len(rows) == 1 else self._record_separately(rows)
        caller = current_author()
        author = Author(None if caller is None else caller.by, OUTBOX)
        try:
            return self._usage.record_many(
                meter_events, submitted_at=submitted_at, authors=[author] * len(meter_events)
            )
        except TallybookError as error:
            if not may_be_caused_by_one(error):
                raise
            return [_rejected(rows[0], error)] if len(rows) == 1 else self._record_separately(rows)

    def _record_separately(self, rows: Sequence[OutboxRow]) -> Sequence[Receipt]:
        return [receipt for row in rows for receipt in self._record([row])]


def _rejected(row: OutboxRow, error: TallybookError) -> Receipt:
    return Receipt(row.identifier, None, Outcome.REJECTED, error)
