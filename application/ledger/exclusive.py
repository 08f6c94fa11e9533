"""The ledger inside a transaction in which no other process can append."""

from collections.abc import Callable, Mapping, Sequence

from eventsourcing.domain import CanMutateAggregate

from ..storage.ports import EventAppender, EventRow


class ExclusiveLedger:
    """The ledger inside a transaction in which no other process can append."""

    def __init__(
        self, recorder: EventAppender, to_rows: Callable[[Sequence[CanMutateAggregate[str]]], list[EventRow]]
    ) -> None:
        self.head = recorder.head
        self.read_page = recorder.read_page
        self._recorder = recorder
        self._to_rows = to_rows

    def append(self, events: Sequence[CanMutateAggregate[str]], versions: Mapping[str, int] | None = None) -> None:
        """Store `events` when the transaction is committed. Raises ConcurrentStreamUpdate as `Ledger.append` does."""
        self._recorder.insert_rows(self._to_rows(events), versions)
