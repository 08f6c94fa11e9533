"""The projector: brings read models up to date with the ledger, page by page."""

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from ..domain.errors import LedgerUnavailable, ProjectionStopped
from .apply_delta import apply_deltas
from .customer_ids import MAX_IDS_BETWEEN_PROJECTIONS, CustomerIdCache
from .high_water_marks import marks_after
from .models import MAX_FEW_EVENTS, PAGE_SIZE, LedgerEvent, PinnedRules, RawPage
from .page_projector import PageProjector
from .page_reader import ledger_gap_error, page_of_events
from .ports import (
    BulkLedgerReader,
    ReadModelReader,
    ReadModelStore,
    ReadModelWriter,
    ResettableReadModelStore,
    WorkerPoolProvider,
)
from .stored_events import METER_TOPICS
from .written_rows import WrittenRows

MAX_CANCELLATIONS_PER_PAGE = 5_000
"""A page with more cancellations is split, because a cancellation takes the database far longer than a new event."""

_log = logging.getLogger("tallybook")


class ProjectionStart(NamedTuple):
    """The position of the read models, and the position to project to."""

    position: int
    head: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a projection: the read models are at `position`, the ledger at `head`."""

    position: int
    head: int
    events_per_second: float

    @property
    def seconds_left(self) -> float:
        """The estimated time until the head is reached."""
        return max(self.head - self.position, 0) / self.events_per_second if self.events_per_second else float("inf")


class Projector:
    """Brings read models up to date with the ledger.

    A page and its last position are committed in one transaction, and only if the read models are still at the position
    before the page. So each page is projected exactly once, even if the process is killed.
    """

    def __init__(
        self,
        ledger: BulkLedgerReader,
        read_models: ReadModelStore,
        page_size: int = PAGE_SIZE,
        *,
        max_cancellations: int = MAX_CANCELLATIONS_PER_PAGE,
        workers: WorkerPoolProvider | None = None,
    ) -> None:
        self.ledger = ledger
        self.read_models = read_models
        self.page_size = page_size
        self.max_cancellations = max_cancellations
        self.workers = workers
        self._written_rows = WrittenRows()
        self._id_cache = CustomerIdCache()

    def head(self) -> int:
        """Return the position of the newest event in the ledger."""
        return self.ledger.head()

    def catch_up(
        self,
        progress: Callable[[Progress], None] | None = None,
        *,
        until: int | None = None,
        start: ProjectionStart | None = None,
    ) -> int:
        """Project all events stored before this call, or those up to `until`; return the position reached.

        `start` is the state of the read models and the ledger if the caller knows it. Raises ProjectionStopped at an
        event that can't be folded, after projecting all events before it, and LedgerUnavailable if the read models
        belong to another ledger or are corrupted.
        """
        if start is None:
            head = self.head() if until is None else until
            with self.read_models.read_session() as reader:
                start = ProjectionStart(reader.position(), head)
        position, head = start
        if position > head and until is None and position > self.ledger.head():
            raise LedgerUnavailable(
                f"The read models are at position {position}, after the last event of the ledger. They belong to "
                "another ledger or are corrupted; open the ledger again to rebuild them."
            )
        started, start_position = time.monotonic(), position
        with self._page_projector(head - position) as page_projector, self._take_id_cache() as id_cache:
            while position < head:
                position = self._project_page(page_projector, id_cache, head, until)
                if progress is not None:
                    seconds = max(time.monotonic() - started, 1e-9)
                    progress(Progress(position, head, (position - start_position) / seconds))
        return position

    @contextmanager
    def fold_of_few_events(self, start: ProjectionStart | None) -> Generator["FewEventsFold"]:
        """Yield the fold of the events after the position of the read models, if they are few.

        They are those up to the head of `start`, or to that of the ledger when they are folded. The fold raises
        ProjectionStopped at an event that can't be folded: `catch_up` projects those before it.
        """
        with self._page_projector(MAX_FEW_EVENTS) as page_projector, self._take_id_cache() as id_cache:
            fold_up_to = partial(self._fold_next, page_projector, id_cache)
            yield FewEventsFold(self.head, fold_up_to, None if start is None else start.head)

    def _page_projector(self, events: int) -> PageProjector:
        return PageProjector(self.ledger, self.page_size, self.max_cancellations, events, self.workers)

    @contextmanager
    def _take_id_cache(self) -> Generator[CustomerIdCache]:
        """Yield the ids of customers of earlier calls, which no other thread has meanwhile."""
        id_cache, self._id_cache = self._id_cache, CustomerIdCache()
        yield id_cache
        if len(id_cache) <= MAX_IDS_BETWEEN_PROJECTIONS:
            self._id_cache = id_cache

    def _project_page(
        self, page_projector: PageProjector, id_cache: CustomerIdCache, head: int, until: int | None
    ) -> int:
        stop_error: ProjectionStopped | None = None
        while True:
            try:
                reached = self.read_models.apply_next_page(
                    partial(
                        self._fold_next,
                        page_projector,
                        id_cache,
                        head,
                        until if stop_error is None else stop_error.position - 1,
                    )
                )
            except ProjectionStopped as error:  # project the events before it; one of them may be invalid too
                stop_error = error
                continue
            if stop_error is not None:
                raise stop_error
            return reached

    def _fold_next(
        self,
        page_projector: PageProjector,
        id_cache: CustomerIdCache,
        head: int,
        until: int | None,
        reader: ReadModelReader,
    ) -> Callable[[ReadModelWriter], None] | None:
        """Fold the page after the reader's position; return a function that writes it, or None at the head."""
        position, customer_ids = reader.position(), id_cache.ids_for(reader)
        if position >= head:
            return None  # another process was faster
        until = head if until is None else until
        page = self._page_if_few(reader, position, until)
        may_configure_meters = page is None or any(topic in METER_TOPICS for _, topic, _ in page.other_events)
        pinned: PinnedRules = reader.pinned() if may_configure_meters else {}
        reached, deltas, marks, latest, last_event = page_projector.fold_next(
            position, until, reader.meters(), customer_ids.ids_of, pinned, page
        )
        marks = marks_after(reader.latest_recorded_at(), marks) if marks else ()
        fingerprint = None
        if reached != position:
            fingerprint = _fingerprint(last_event) if last_event else event_fingerprint(self.ledger, reached)
        if fingerprint is None:
            if position < min(head, until):
                raise ledger_gap_error(position + 1)
            return None

        def write(writer: ReadModelWriter) -> None:
            writer.add_customers(customer_ids.new_ids)
            for delta in deltas:
                if delta.has_meter_changes:
                    writer.upsert_meter(delta.meter)
            written_rows = self._take_written_rows(writer)
            apply_deltas(writer, [part for delta in deltas for part in delta.parts], written_rows)
            writer.add_high_water_marks(marks)
            page_id = secrets.token_hex(16)
            writer.advance_position(reached, fingerprint, latest, page_id)
            written_rows.end_page(page_id)
            id_cache.page_id = page_id
            self._written_rows = written_rows

        return write

    def _take_written_rows(self, writer: ReadModelWriter) -> WrittenRows:
        """Return the rows that the last page wrote, if they are still stored so; otherwise none.

        They are taken away until the page is written: if it fails, they are only partly those of a page.
        """
        written_rows, self._written_rows = self._written_rows, WrittenRows()
        page_id = writer.page_id()
        return written_rows if page_id is not None and written_rows.page_id == page_id else WrittenRows()

    def _page_if_few(self, reader: ReadModelReader, position: int, until: int) -> RawPage | None:
        """Return the events after the position of the read models, up to `until`, if they are few.

        They are read together with the event at the position. Raises LedgerUnavailable if the read models were built
        from another one: events could be projected twice.
        """
        count = until - position if until - position <= MAX_FEW_EVENTS else 0
        events = list(reader.next_events() or self.ledger.read_page(max(position - 1, 0), count + bool(position)))
        before = events.pop(0) if events and events[0][0] == position else None
        if reader.ledger_fingerprint() != (None if before is None else _fingerprint(before)):
            raise LedgerUnavailable(
                f"The read models are at position {position}, but were built from another event at that position. "
                "They are corrupted; open the ledger again to rebuild them."
            )
        return page_of_events(events, position) if events and events[-1][0] >= until else None


class FewEventsFold:
    """Folds the next page if it has few events. `head` is the position of the newest event, if it was read."""

    def __init__(
        self,
        read_head: Callable[[], int],
        fold_up_to: Callable[[int, int | None, ReadModelReader], Callable[[ReadModelWriter], None] | None],
        head: int | None,
    ) -> None:
        self._read_head = read_head
        self._fold_up_to = fold_up_to
        self._known_head = head
        self.head: int | None = None

    def __call__(self, reader: ReadModelReader) -> Callable[[ReadModelWriter], None] | None:
        """Fold the events after the reader's position; return a function that writes them, or None."""
        head = self._known_head
        if head is None:
            head = reader.ledger_head()
            self.head = head = self._read_head() if head is None else head
        if head - reader.position() > MAX_FEW_EVENTS:
            return None
        return self._fold_up_to(head, None, reader)


def reset_if_other_ledger(ledger: BulkLedgerReader, read_models: ResettableReadModelStore) -> None:
    """Reset the read models if any generation was built from another ledger, for example before a restore."""
    if all(
        event_fingerprint(ledger, position) == fingerprint for position, fingerprint in read_models.generation_heads()
    ):
        return
    _log.warning("The read models were built from another ledger; they are rebuilt.")
    read_models.reset()


def event_fingerprint(ledger: BulkLedgerReader, position: int) -> str | None:
    """Return a digest that identifies the event at a position; None if there is no event."""
    for event in ledger.read_page(position - 1, 1):
        if event[0] == position:
            return _fingerprint(event)
    return None


def _fingerprint(event: LedgerEvent) -> str:
    return hashlib.sha256(repr(event).encode(errors="backslashreplace")).hexdigest()
