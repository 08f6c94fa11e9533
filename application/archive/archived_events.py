"""Reads pruned events from the archive that the ledger names, and compares each with its leaf hash in the ledger."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from ...domain.errors import ArchiveMismatch, ArchiveUnavailable, TallybookError
from ..checkpoints.leaves import event_leaf_data
from ..checkpoints.merkle import leaf_hash
from ..ledger.ledger import Ledger
from ..storage.ports import PositionedEventRow
from .reader import INSTALL_HINT, ArchiveReader, has_extra

if TYPE_CHECKING:
    from .manifest import ArchiveSegment
    from .segment_file import SegmentReader

_MAX_OPEN_SEGMENTS = 2
"""A segment of an object store is in memory while it is open: about 20 MB."""
_MAX_ROW_GROUPS = 4
"""A row group takes about 12 MB."""
_RETRY_TIMEOUT = timedelta(seconds=5)
"""How long requests to an object store that fail are repeated."""
_PAUSE_RATIO = 10
"""An archive isn't tried again for so many times as long as it took to find it unreadable: who records waits for it."""
_LAST = attrgetter("last")


class _Failure(NamedTuple):
    """Why an archive can't be read, and the time up to which it isn't tried again."""

    reason: str
    until: float


def connect_archive(ledger: Ledger) -> Ledger:
    """Let a ledger read its pruned events from their archive, and return it."""
    ledger.ledger_recorder.archived_events = ArchivedEvents()
    return ledger


class ArchivedEvents:
    """Reads events from archives. What was read last is cached, because the next events are mostly near."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._archives: dict[str, _CachedArchive] = {}
        self._failures: dict[str, _Failure] = {}

    def read(self, archive: str, leaf_hashes: Mapping[int, bytes]) -> Mapping[int, PositionedEventRow]:
        """Return the row at each position, which has this leaf hash. Raise ArchiveUnavailable or ArchiveMismatch."""
        positions = sorted(leaf_hashes)
        if not has_extra():
            raise _unavailable(archive, positions, INSTALL_HINT)
        with self._lock:
            started = self._clock()
            failure = self._failures.get(archive)
            if failure is not None and started < failure.until:
                raise _unavailable(archive, positions, failure.reason)
            try:
                if archive not in self._archives:
                    self._archives[archive] = _open(archive)
                rows = self._archives[archive].rows(positions)
            except TallybookError as error:
                self._close(archive)
                failed = self._clock()
                self._failures[archive] = _Failure(error.message, failed + _PAUSE_RATIO * (failed - started))
                raise _unavailable(archive, positions, error.message) from error
            self._failures.pop(archive, None)
        for position in positions:
            row = rows[position]
            if row[0] != position or leaf_hash(event_leaf_data(row)) != leaf_hashes[position]:
                raise ArchiveMismatch(
                    f"The archive {archive} has another event at position {position} than the ledger had when its "
                    "history was pruned. 'tallybook archive verify' shows what was changed in the archive.",
                    field="archive",
                    value=archive,
                )
        return rows

    def close(self) -> None:
        """Close the files that are open for the next events."""
        with self._lock:
            for archive in list(self._archives):
                self._close(archive)

    def _close(self, archive: str) -> None:
        cached = self._archives.pop(archive, None)
        if cached is not None:
            cached.close()


class _CachedArchive:
    """An archive, with the segments and row groups that were used last."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive
        self._segments: Sequence[ArchiveSegment] = archive.segments
        self._readers: OrderedDict[str, SegmentReader] = OrderedDict()
        self._tables: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def rows(self, positions: Sequence[int]) -> dict[int, PositionedEventRow]:
        """Return the row at each of these positions, which are in order. Raise ArchiveUnavailable."""
        from .segment_file import UNREADABLE_FILE_ERRORS, table_rows  # noqa: PLC0415 - an extra

        if not self._segments or positions[-1] > self._segments[-1].last:
            self._segments = self._archive.segments
        rows: dict[int, PositionedEventRow] = {}
        file = ""
        try:
            for segment, wanted in self._by_segment(positions):
                file = segment.file
                for table, indices in self._tables_of(segment, wanted):
                    rows.update((row[0], row) for row in table_rows(table.take(indices)))
        except UNREADABLE_FILE_ERRORS as error:
            raise ArchiveUnavailable(f"{file} can't be read: {error}", field="archive") from error
        missing = next((position for position in positions if position not in rows), None)
        if missing is not None:
            raise ArchiveUnavailable(f"it has no event at position {missing}", field="archive")
        return rows

    def close(self) -> None:
        """Close all files."""
        while self._readers:
            self._readers.popitem()[1].close()

    def _by_segment(self, positions: Sequence[int]) -> "Iterator[tuple[ArchiveSegment, Sequence[int]]]":
        """Yield each segment with those of the positions that are in it."""
        start = 0
        while start < len(positions):
            index = bisect_left(self._segments, positions[start], key=_LAST)
            if index == len(self._segments):
                return
            end = bisect_left(positions, self._segments[index].last + 1, lo=start)
            yield self._segments[index], positions[start:end]
            start = end

    def _tables_of(self, segment: "ArchiveSegment", positions: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
        """Yield the table of each row group with some of the positions, and their indices in it."""
        first = segment.first
        for group, size in enumerate(self._reader(segment.file).row_groups):
            start, end = bisect_left(positions, first), bisect_left(positions, first + size)
            if start < end:
                yield self._table(segment.file, group), [position - first for position in positions[start:end]]
            first += size

    def _reader(self, file: str) -> "SegmentReader":
        from .segment_file import SegmentReader  # noqa: PLC0415 - an extra

        if file not in self._readers:
            self._readers[file] = SegmentReader(self._archive.destination.open_segment(file))
            if len(self._readers) > _MAX_OPEN_SEGMENTS:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(file)
        return self._readers[file]

    def _table(self, file: str, group: int) -> Any:
        key = file, group
        if key not in self._tables:
            self._tables[key] = self._reader(file).stored_rows(group)
            if len(self._tables) > _MAX_ROW_GROUPS:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return self._tables[key]


def _open(archive: str) -> _CachedArchive:
    from .locations import resolve_destination  # noqa: PLC0415 - an extra

    destination = resolve_destination(archive, _RETRY_TIMEOUT)
    if not destination.read_manifest().data:
        raise ArchiveUnavailable("no archive is there. Restore it from a backup.", field="archive")
    return _CachedArchive(ArchiveReader(destination))


def _unavailable(archive: str, positions: Sequence[int], reason: str) -> ArchiveUnavailable:
    first, last = positions[0], positions[-1]
    which = f"event at position {first} is" if first == last else f"events at positions {first} to {last} are"
    return ArchiveUnavailable(
        f"The {which} in the archive {archive}, which can't be read: {reason} If it was moved, run "
        "'tallybook archive prune' with its new place.",
        field="archive",
        value=archive,
    )
