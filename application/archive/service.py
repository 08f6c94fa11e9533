"""The archive of a ledger: `metering.archive`. pyarrow and obstore are imported when they are needed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..ledger.ledger import Ledger
from .reader import ArchiveReader, no_progress, require_extra, verify_archive
from .results import ArchiveExport, ArchiveVerification

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class ArchiveService:
    """Exports the events of a ledger, and compares an archive with the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def export(
        self, destination: "str | Path | ObjectStore", *, progress: Callable[[int, int], None] = no_progress
    ) -> ArchiveExport:
        """Add all events that are not archived yet to the archive at `destination`, which is created if necessary.

        `destination` is the path of a folder, a URL such as s3://bucket/prefix, or a store of the package obstore. All
        events are durable there when this returns. It can be interrupted at any time, and continues the next time.
        `progress` is called with the position reached and the last position.

        Raises ArchiveMismatch if the archive was changed or is that of another ledger, ArchiveInUse, ArchiveUnavailable
        or InvalidArchive.
        """
        require_extra()
        from .export import Exporter  # noqa: PLC0415
        from .locations import resolve_destination  # noqa: PLC0415 - an extra

        return Exporter(self._ledger, resolve_destination(destination), progress).run()

    def verify(
        self,
        destination: "str | Path | ObjectStore",
        *,
        checkpoints: str | Path | None = None,
        key: str | Path | None = None,
        progress: Callable[[int, int], None] = no_progress,
    ) -> ArchiveVerification:
        """Verify the archive at `destination` as `Archive.verify` does, and compare each event with the ledger."""
        return verify_archive(ArchiveReader.open(destination), self._ledger, checkpoints, key, progress)
