"""Observing a server: every answer and every commit is counted, and answers are logged."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..results import Receipt
from .access_log import log_answer
from .measures import Measures
from .seen import Seen


@dataclass(frozen=True, slots=True)
class Observer:
    """Whom the server tells what it does."""

    measures: Measures
    is_logging: bool = True

    def answered(self, seen: Seen) -> None:
        """A request was answered."""
        self.measures.answered(seen.operation, seen.method, seen.status, seen.seconds)
        if self.is_logging:
            log_answer(seen)

    def waiting(self, events: int) -> None:
        """So many events more, or less, wait to be recorded."""
        self.measures.waiting.inc(events)

    def committed(self, receipts: Sequence[Receipt], seconds: float) -> None:
        """Events were recorded in one transaction."""
        self.measures.committed(Counter(receipt.outcome for receipt in receipts), seconds)
