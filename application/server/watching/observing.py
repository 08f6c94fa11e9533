"""Observing a server: every answer and every commit is counted, and answers are logged."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ...results import Receipt
from .access_log import AccessLog
from .measures import Measures
from .seen import Seen


@dataclass(frozen=True, slots=True)
class Observer:
    """Whom the server tells what it does."""

    measures: Measures
    log: AccessLog | None = None

    def answered(self, seen: Seen) -> None:
        """A request was answered."""
        self.measures.answered(seen.operation, seen.method, seen.status, seen.seconds)
        if self.log is not None:
            self.log.add(seen)

    def waiting(self, events: int) -> None:
        """So many events more, or less, wait to be recorded."""
        self.measures.waiting.inc(events)

    def committed(self, receipts: Sequence[Receipt], seconds: float) -> None:
        """Events were recorded in one transaction."""
        self.measures.committed(Counter(receipt.outcome for receipt in receipts), seconds)

    def close(self) -> None:
        """Write what is to be logged still."""
        if self.log is not None:
            self.log.flush()
