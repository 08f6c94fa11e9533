"""Imports: which meter events each import of a file recorded, and the cancellation of all of them."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from ...domain.aggregate import Aggregate
from ...domain.bulk_cancellation import BulkCancellationStatus
from ...domain.errors import ImportRunNotFound, InvalidCancellation
from ...domain.import_run import ImportRun
from ...domain.meter_event import MeterEventData
from ...domain.timestamps import ensure_utc
from ..cancellation_views import BulkCancellationView, CancellationPreview
from ..import_views import ImportRunView
from ..ledger.import_runs import ImportRuns
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..results import Receipts
from ..uuid7 import uuid7
from ..validation import optional_note, require_text
from .bulk_cancellations import BulkCancellationCommands, OnProgress
from .receipts import RecordedBatch
from .usage import AttachToReceipts, UsageCommands


class RowRecorder(Protocol):
    """Records the meter events of a file in batches."""

    def prepare(self, meter_events: Sequence[object]) -> Sequence[object]:
        """Prepare a batch, which is then recorded by `record_batch` of the result. Read nothing from a ledger."""
        ...

    def record_batch(self, meter_events: Sequence[object], *, attach: AttachToReceipts | None = None) -> RecordedBatch:
        """Record a batch, as `Metering.record_many` does."""
        ...

    def finish(self, *, rows: int, accepted: int, duplicates: int, conflicts: int, rejected: int) -> None:
        """Take note of the number of rows by outcome."""
        ...

    @property
    def run_id(self) -> str | None:
        """The id of the import; None while it has recorded nothing."""
        ...


class ImportRecorder:
    """Records the meter events of one import. Nothing is stored about an import that records no meter event."""

    def __init__(
        self, ledger: Ledger, usage: UsageCommands, start: Callable[..., ImportRun], run: ImportRun | None = None
    ) -> None:
        self._ledger = ledger
        self._usage = usage
        self._start = start
        self._run = run
        self._next_run: ImportRun | None = None

    @property
    def run_id(self) -> str | None:
        """The id of the import; None while it has recorded nothing."""
        return None if self._run is None else self._run.run_id

    def prepare(self, meter_events: Sequence[object]) -> Sequence[object]:
        """Return the meter events of a later batch, as `UsageCommands.prepare` does."""
        return self._usage.prepare(meter_events, _no_authors(meter_events))

    def record_batch(self, meter_events: Sequence[object], *, attach: AttachToReceipts | None = None) -> RecordedBatch:
        """Record a batch, as `Metering.record_many` does. The ledger stores how many of its meter events are new."""
        recorded = self._usage.record_batch(
            meter_events, attach=attach, last_events=self._last_events, authors=_no_authors(meter_events)
        )
        if recorded.accepted:
            self._run = self._next_run
        return recorded

    def record_many(self, meter_events: Sequence[object], *, attach: AttachToReceipts | None = None) -> Receipts:
        """Record a batch as `record_batch` does, and return a receipt for each meter event."""
        return self.record_batch(meter_events, attach=attach).receipts

    def finish(self, *, rows: int, accepted: int, duplicates: int, conflicts: int, rejected: int) -> None:
        """Store the number of rows by outcome, once."""
        if self._run is not None and self._run.finished is None:
            self._run.finish(
                rows=rows, accepted=accepted, duplicates=duplicates, conflicts=conflicts, rejected=rejected,
                at=ensure_utc(self._usage.clock(), "clock"),
            )  # fmt: skip
            self._ledger.append(self._run.collect_events())

    def _last_events(self, recorded: Sequence[MeterEventData], at: datetime) -> Sequence[Aggregate.Event]:
        """Return the events to store after new meter events: the import itself changes once they are stored."""
        times, event_names = [data.occurred_at for data in recorded], {data.event_name for data in recorded}
        batch: dict[str, Any] = {
            "count": len(recorded),
            "event_names": tuple(sorted(event_names)),
            "earliest": min(times),
            "latest": max(times),
        }
        if self._run is None:
            run = self._start(**batch, at=at)
        else:
            run = deepcopy(self._run)
            run.record_batch(**batch, at=at)
        self._next_run = run
        return [event for event in run.collect_events() if isinstance(event, Aggregate.Event)]


def _no_authors(meter_events: Sequence[object]) -> list[None]:
    """Return the authors of meter events, which need none of their own: the import has it."""
    return [None] * len(meter_events)


class ImportCommands:
    """The imports of a ledger: `metering.imports`."""

    def __init__(self, ledger: Ledger, usage: UsageCommands, cancellations: BulkCancellationCommands) -> None:
        self.ledger = ledger
        self.usage = usage
        self._cancellations = cancellations
        self._runs = ImportRuns(ledger)

    def start(self, file: str, digest: str, *, by: str | None = None, run_id: str | None = None) -> ImportRecorder:
        """Start an import of a file, given its name and the SHA-256 of its contents in hexadecimal.

        Its meter events are recorded by `record_many` of the result, and `finish` stores the outcomes. Only meter
        events that are new belong to the import, and the ledger stores their positions, not another field of theirs. An
        interrupted import with this `run_id` is continued.
        """
        file, digest = require_text(file[-500:], "file", 500), require_text(digest, "digest", 64)
        by = optional_note(by, "by")

        start = partial(ImportRun.start, run_id or str(uuid7()), file=file, digest=digest, by=by)
        try:
            run = None if run_id is None else self._runs.get(run_id).run
        except ImportRunNotFound:  # it was interrupted before it recorded anything
            run = None
        return ImportRecorder(self.ledger, self.usage, start, run)

    @retry_on_connection_loss
    def list(self) -> "list[ImportRunView]":
        """Return all imports, oldest first."""
        return [ImportRunView.from_aggregate(stored.run) for stored in self._runs.list()]

    @retry_on_connection_loss
    def get(self, run_id: str) -> ImportRunView:
        """Return an import. Raises ImportRunNotFound."""
        return ImportRunView.from_aggregate(self._runs.get(require_text(run_id, "import_run", 100)).run)

    def count_cancelled(self, identifiers: Sequence[str]) -> int:
        """Return how many of these meter events are cancelled."""
        return self.ledger.count_cancelled(identifiers) if identifiers else 0

    def preview_undo(self, run_id: str, *, timezone: str = "UTC") -> "list[CancellationPreview]":
        """Return what `undo` would cancel, for each meter of the import. Raises ImportRunNotFound."""
        return [
            self._cancellations.preview(event_name, import_run=run_id, timezone=timezone)
            for event_name in self.get(run_id).event_names
        ]

    def undo(
        self,
        run_id: str,
        *,
        reason: str,
        by: str | None = None,
        digests: Iterable[str] | None = None,
        progress: OnProgress | None = None,
    ) -> "list[BulkCancellationView]":
        """Cancel all meter events of an import, and return the bulk cancellation of each of its meters.

        An undo that was interrupted is finished. With the `digests` of the previews, PreviewChanged is raised unless
        the same events would be cancelled. Raises ImportRunNotFound, and InvalidCancellation if there is nothing to
        cancel, for example because the import is older than the cancel window. To go back, revoke the cancellations.
        """
        event_names = self.get(run_id).event_names
        expected = dict(zip(event_names, digests, strict=True)) if digests is not None else {}
        cancellations: list[BulkCancellationView] = []
        errors: list[InvalidCancellation] = []
        for event_name in event_names:
            interrupted = self._interrupted(event_name, run_id)
            if interrupted is not None:
                cancellations.append(self._cancellations.resume(interrupted, progress=progress))
                continue
            try:
                bulk = self._cancellations.cancel_many(
                    event_name, import_run=run_id, reason=reason, by=by, digest=expected.get(event_name),
                    progress=progress,
                )  # fmt: skip
            except InvalidCancellation as error:
                errors.append(error)
            else:
                cancellations.append(bulk)
        if errors and not cancellations:
            raise errors[0]
        return cancellations

    def _interrupted(self, event_name: str, run_id: str) -> str | None:
        """Return the id of a cancellation of the import that isn't finished, if there is one."""
        return next(
            (
                bulk.cancellation_id
                for bulk in self._cancellations.list(event_name)
                if bulk.selection.import_run == run_id and bulk.status is BulkCancellationStatus.CANCELLING
            ),
            None,
        )
