"""Exports the events of a ledger to an archive. It can be killed at any moment and repeated at any time.

A segment is stored first, then the manifest that names it. A segment that the manifest doesn't name is therefore

- the next one, if it starts after the last archived position: its export was killed before the manifest was replaced.
  It is compared with the ledger and added to the manifest;
- useless, if it starts before that: another export has stored the same positions. No export can add it to the manifest
  any more, because the manifest only grows, and is only replaced if it is the one that was read. It is deleted.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ...domain.errors import ArchiveInUse, ArchiveMismatch
from ..checkpoints.checkpoint import to_base64
from ..checkpoints.leaves import leaf_hashes
from .arrow import pa
from .columns import SCHEMA, UnreadableState, stored_columns
from .destinations import ConcurrentExport, Destination, StoredManifest
from .layout import BLOCK_SIZE, parse_segment_name, segment_end, segment_name
from .ledger_rows import RowReader, corrupted_row, ledger_pages, paused_garbage_collection
from .manifest import ArchiveSegment, Manifest, parse_segment
from .ranges import TreeRange
from .results import ArchiveExport
from .segment_check import SegmentCheck, file_digest
from .segment_file import UNREADABLE_FILE_ERRORS, HashingFile, SegmentReader, write_segment
from .usage_columns import ColumnDecoder

ProgressCallback = Callable[[int, int], None]
"""Called after each page with the position reached and the last position."""

MAX_CONFLICTS = 100
"""How often other exports may be first before an export ends."""


class Exporter:
    """One export to a destination. `block_size` is the largest number of rows of a segment, a power of two."""

    def __init__(
        self, ledger: RowReader, destination: Destination, progress: ProgressCallback, block_size: int = BLOCK_SIZE
    ) -> None:
        self._ledger = ledger
        self._destination = destination
        self._progress = progress
        self._block_size = block_size
        self._decoder = ColumnDecoder()
        self._added: list[ArchiveSegment] = []

    def run(self) -> ArchiveExport:
        """Export all events up to the present head. Raise ArchiveMismatch if the archive has other events."""
        with self._destination.exclusive():
            head = self._ledger.head()
            self._check_same_ledger(self._read_manifest()[1], head)
            conflicts = 0
            while conflicts < MAX_CONFLICTS:
                stored, manifest = self._read_manifest()
                try:
                    if not self._add_next(stored, manifest, head):
                        return self._result(manifest)
                except ConcurrentExport:
                    conflicts += 1
            raise ArchiveInUse(
                f"Other processes are exporting to {self._destination.location}. Try again when they have finished.",
                field="destination",
                value=self._destination.location,
            )

    def _read_manifest(self) -> tuple[StoredManifest, Manifest]:
        stored = self._destination.read_manifest()
        return stored, Manifest.parse(stored.data, self._destination.location)

    def _add_next(self, stored: StoredManifest, manifest: Manifest, head: int) -> bool:
        """Add the next segment to the archive. Return False if there is none. Raise ConcurrentExport."""
        line = self._find_unlisted(manifest, head)
        if line is None and manifest.last < head:
            line = self._export_segment(manifest, head)
        if line is None:
            return False
        self._destination.replace_manifest(stored.data + line, stored)
        self._added.append(parse_segment(line.removesuffix(b"\n")))
        return True

    def _export_segment(self, manifest: Manifest, head: int) -> bytes:
        """Store the next segment and return its line of the manifest."""
        first = manifest.last + 1
        last = segment_end(first, head, self._block_size)
        hashes = TreeRange(first - 1)
        line = b""

        def write(file: BinaryIO) -> None:
            nonlocal line
            hashing_file = HashingFile(file)
            write_segment(hashing_file, self._tables(first, last, hashes, head))
            line = manifest.line_after(hashes, hashing_file.size, hashing_file.sha256())

        self._destination.add_segment(segment_name(first, last), write)
        return line

    def _tables(self, first: int, last: int, hashes: TreeRange, head: int) -> Iterator[Any]:
        """Yield a table for each page of the ledger, and add its leaves to `hashes`."""
        pages = ledger_pages(self._ledger, first, last)
        while True:
            with paused_garbage_collection():
                page = next(pages, None)
                if page is None:
                    return
                hashes.extend(leaf_hashes(page.rows))
                try:
                    *stored, state = stored_columns(page)
                    table = pa.table([*stored, *self._decoder.decode(page), state], schema=SCHEMA)
                except UnreadableState as error:
                    raise corrupted_row(error.position, str(error)) from error
                del page
            yield table
            self._progress(hashes.end, head)

    def _find_unlisted(self, manifest: Manifest, head: int) -> bytes | None:
        """Return the line of the next segment if it is stored already. Delete segments that no manifest can name."""
        listed = {segment.file for segment in manifest.segments}
        line = None
        for name in sorted(self._destination.file_names()):
            positions = parse_segment_name(name)
            if positions is None or name in listed:
                continue
            first, last = positions
            if first <= manifest.last:
                self._destination.delete_segment(name)
            elif first == manifest.last + 1 and line is None:
                line = self._adopt(name, manifest, last, head)
        return line

    def _adopt(self, name: str, manifest: Manifest, last: int, head: int) -> bytes:
        """Return the line of a stored segment that no line names yet, if it has the events of the ledger."""
        first = manifest.last + 1
        hashes = TreeRange(first - 1)
        if last <= self._present_head(head):
            for page in ledger_pages(self._ledger, first, last):
                hashes.extend(leaf_hashes(page.rows))
        try:
            file = self._destination.open_segment(name)
        except FileNotFoundError as error:  # another export has deleted it
            raise ConcurrentExport(name) from error
        with file:
            size, sha256 = file_digest(file)
            check = SegmentCheck(name, first, last).run(file)
        if check.differences or check.hashes.subtrees != hashes.subtrees:
            reason = check.differences[0].message if check.differences else "it has other events than the ledger"
            raise self._mismatch(
                f"{name} in {self._destination.location} is not in the manifest, and can't be added to it: {reason}. "
                "Delete it and export again."
            )
        self._progress(last, head)
        return manifest.line_after(hashes, size, sha256)

    def _check_same_ledger(self, manifest: Manifest, head: int) -> None:
        """Raise ArchiveMismatch if the last archived event is not that of the ledger."""
        if not manifest.segments:
            return
        if manifest.last > (head := self._present_head(head)):
            raise self._mismatch(
                f"The archive {self._destination.location} ends at position {manifest.last}, but the ledger at {head}: "
                "it is the archive of another ledger, or the ledger was restored from a backup."
            )
        name = manifest.segments[-1].file
        try:
            with self._destination.open_segment(name) as file:
                row = SegmentReader(file).last_row()
        except UNREADABLE_FILE_ERRORS as error:
            raise self._mismatch(f"{name} in {self._destination.location} can't be read: {error}.") from error
        if [row] != list(self._ledger.stored_rows(manifest.last, manifest.last)):
            raise self._mismatch(
                f"The archive {self._destination.location} has another event at position {manifest.last} than the "
                "ledger: it is the archive of another ledger, or one of them was changed."
            )

    def _present_head(self, head: int) -> int:
        """Return the present head of the ledger: another export may have found a longer ledger than this one."""
        return max(head, self._ledger.head())

    def _mismatch(self, message: str) -> ArchiveMismatch:
        return ArchiveMismatch(message, field="destination", value=self._destination.location)

    def _result(self, manifest: Manifest) -> ArchiveExport:
        return ArchiveExport(
            destination=self._destination.location,
            segments=len(self._added),
            rows=sum(segment.last - segment.first + 1 for segment in self._added),
            bytes=sum(segment.bytes for segment in self._added),
            last_position=manifest.last,
            root=to_base64(manifest.tree.root()),
        )
