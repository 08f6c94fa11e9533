"""Dry run of an import: it is recorded in a temporary ledger with the same meters, so that the same rules apply."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from ...domain.meter import STREAM_PREFIX as METER_PREFIX
from ...domain.meter_event import MeterEvent
from ...domain.meter_event_input import MeterEventInput
from ...domain.text import is_storable
from ..cancellation_views import CancellationPreviewRow
from ..commands.receipts import RecordedBatch
from ..commands.usage import AttachToReceipts
from ..ledger.ledger import Ledger
from ..metering import Metering


class DryRun:
    """Records the rows of a file in a temporary ledger. Each meter event that the real one has is copied there first.

    So an accepted row is one that would be accepted, and a duplicate or conflict is one with the real ledger or with an
    earlier row of the file.
    """

    run_id = None

    def __init__(self, source: Metering, target: Metering, file: str, digest: str) -> None:
        self._source = source.imports.ledger
        self._target = target
        self._recorder = target.imports.start(file, digest)

    def prepare(self, meter_events: Sequence[object]) -> Sequence[object]:
        """Return the meter events as they are."""
        return meter_events

    def record_batch(self, meter_events: Sequence[object], *, attach: AttachToReceipts | None = None) -> RecordedBatch:
        """Record a batch in the temporary ledger."""
        wanted = {identifier for event in meter_events if (identifier := _identifier(event)) is not None}
        known = self._target.imports.ledger.find_meter_events(wanted)
        _copy_meter_events(self._source, self._target.imports.ledger, wanted - known.keys())
        return self._recorder.record_batch(meter_events, attach=attach)

    def finish(self, *, rows: int, accepted: int, duplicates: int, conflicts: int, rejected: int) -> None:
        """End the dry run."""

    def usage(self, timezone: str) -> Mapping[str, tuple[CancellationPreviewRow, ...]]:
        """Return what the accepted rows of each meter would add, by customer and month.

        The `difference` of a row is the quantity before less that after, as if the file were cancelled.
        """
        if self._recorder.run_id is None:
            return {}
        previews = self._target.imports.preview_undo(self._recorder.run_id, timezone=timezone)
        return {preview.event_name: preview.rows for preview in previews}


@contextmanager
def open_dry_run(metering: Metering, file: Path, digest: bytes) -> Generator[DryRun]:
    """Create a temporary ledger with the meters of a ledger, on disk, and delete it at the end."""
    with TemporaryDirectory(prefix="tallybook-dry-run-") as folder:
        usage = metering.imports.usage
        with Metering.open(f"sqlite:///{folder}/usage.db", policy=usage.policy, clock=usage.clock) as target:
            _copy_meters(metering.imports.ledger, target.imports.ledger)
            yield DryRun(metering, target, file.name, digest.hex())


def _copy_meters(source: Ledger, target: Ledger) -> None:
    stored = sorted(source.ledger_recorder.select_by_prefix(METER_PREFIX), key=lambda event: event.id)
    target.ledger_recorder.insert_rows(
        [(str(event.originator_id), event.originator_version, event.topic, event.state) for event in stored]
    )


def _copy_meter_events(source: Ledger, target: Ledger, identifiers: Iterable[str]) -> None:
    """Copy those of the meter events that are recorded."""
    streams = [MeterEvent.stream_id(identifier) for identifier in identifiers]
    stored = source.ledger_recorder.select_first_events(streams)
    if stored:
        target.ledger_recorder.insert_rows(
            [(str(event.originator_id), 1, event.topic, event.state) for event in stored]
        )


def _identifier(meter_event: object) -> str | None:
    """Return the identifier of a row of the importer; None if it is no valid text."""
    if isinstance(meter_event, MeterEventInput):
        return meter_event.identifier
    identifier = cast(Mapping[str, Any], meter_event).get("identifier")
    return identifier if isinstance(identifier, str) and is_storable(identifier) else None
