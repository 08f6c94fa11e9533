"""The imports of a ledger, and the positions of their meter events."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, cast

from eventsourcing.persistence import Notification

from ...domain.errors import ImportRunNotFound
from ...domain.import_run import STREAM_PREFIX, ImportRun
from ...domain.timestamps import to_microseconds
from .ledger import Ledger
from .position_ranges import PositionRanges

_BATCH_TOPICS = (ImportRun.ImportStarted.__name__, ImportRun.ImportBatchRecorded.__name__)


class StoredImportRun(NamedTuple):
    """An import, and the positions of its meter events."""

    run: ImportRun
    positions: PositionRanges

    @property
    def time_span(self) -> tuple[int, int]:
        """The times of the earliest and the latest usage, in microseconds since 1970 UTC."""
        return to_microseconds(self.run.earliest), to_microseconds(self.run.latest)


class ImportRuns:
    """Reads the imports of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def get(self, run_id: str) -> StoredImportRun:
        """Return an import. Raises ImportRunNotFound."""
        stored_events = self._ledger.ledger_recorder.select_stream(ImportRun.stream_id(run_id))
        if not stored_events:
            raise ImportRunNotFound(f"There is no import {run_id!r}.", field="import_run", value=run_id)
        return self._run(stored_events)

    def list(self) -> "list[StoredImportRun]":
        """Return all imports, oldest first."""
        stored_events = self._ledger.ledger_recorder.select_by_prefix(STREAM_PREFIX)
        streams = (list(events) for _, events in groupby(stored_events, attrgetter("originator_id")))
        return sorted(map(self._run, streams), key=lambda stored: (stored.run.created_on, stored.run.run_id))

    def _run(self, stored_events: Sequence[Notification]) -> StoredImportRun:
        run = cast(ImportRun, next(self._ledger.aggregates(stored_events)))
        return StoredImportRun(run, PositionRanges.before(stored_events, _BATCH_TOPICS))
