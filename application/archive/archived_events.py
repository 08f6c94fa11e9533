"""Reads pruned events from the archive that the ledger names, and compares each with its leaf hash in the ledger."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from operator import attrgetter
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from ...domain.errors import ArchiveMismatch, ArchiveUnavailable, TallybookError
from ..checkpoints.leaves import event_leaf_data
from ..checkpoints.merkle import leaf_hash
from ..interruption import check_interruption
from ..ledger.ledger import Ledger
from ..storage.ports import PositionedEventRow
from .reader import INSTALL_HINT, ArchiveReader, has_extra

if TYPE_CHECKING:
    from .manifest import ArchiveSegment
    from .segment_file import SegmentReader

_MAX_OPEN_SEGMENTS = 2
"""A segment of an object store is in memory while it is open as a whole: about 20 MB."""
_FEW_EVENTS = 8
"""For up to this number of events of a segment, only their row groups are loaded from an object store."""
MAX_CACHED_BYTES = 32 << 20
"""Of decoded row groups. The last one is cached in any case: the next events are mostly in it."""
_WAIT_SECONDS = 0.1
"""How often a thread that waits for others to read looks if it is interrupted."""
_RETRY_TIMEOUT = timedelta(seconds=5)
"""How long requests to an object store that fail are repeated."""
_PAUSE_RATIO = 10
"""After an error, an archive isn't tried again for this many times the duration of the failed attempt."""
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

    def __init__(self, clock: Callable[[], float] = monotonic, max_cached_bytes: int = MAX_CACHED_BYTES) -> None:
        self._clock = clock
        self._max_cached_bytes = max_cached_bytes
        self._lock = Lock()
        self._archives: dict[str, _CachedArchive] = {}
        self._failures: dict[str, _Failure] = {}

    def read(self, archive: str, leaf_hashes: Mapping[int, bytes]) -> Mapping[int, PositionedEventRow]:
        """Return the row at each position, which has this leaf hash. Raise ArchiveUnavailable or ArchiveMismatch."""
        positions = sorted(leaf_hashes)
        if not has_extra():
            raise _unavailable(archive, positions, INSTALL_HINT)
        rows: dict[int, PositionedEventRow] = {}
        while len(rows) < len(positions):
            with self._locked():  # for one row group at a time, so that others can read between
                rows |= self._next_rows(archive, positions[len(rows) :])
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

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Hold the lock in the block. Raise QueryInterrupted if the query of this thread has to stop."""
        check_interruption()
        while not self._lock.acquire(timeout=_WAIT_SECONDS):
            check_interruption()
        try:
            yield
        finally:
            self._lock.release()

    def _next_rows(self, archive: str, positions: Sequence[int]) -> Mapping[int, PositionedEventRow]:
        started = self._clock()
        failure = self._failures.get(archive)
        if failure is not None and started < failure.until:
            raise _unavailable(archive, positions, failure.reason)
        try:
            if archive not in self._archives:
                self._archives[archive] = _open(archive, self._max_cached_bytes)
            rows = self._archives[archive].next_rows(positions)
        except TallybookError as error:
            self._close(archive)
            failed = self._clock()
            self._failures[archive] = _Failure(error.message, failed + _PAUSE_RATIO * (failed - started))
            raise _unavailable(archive, positions, error.message) from error
        self._failures.pop(archive, None)
        return rows

    def _close(self, archive: str) -> None:
        cached = self._archives.pop(archive, None)
        if cached is not None:
            cached.close()


class _CachedArchive:
    """An archive, with the segments and row groups that were read last."""

    def __init__(self, archive: ArchiveReader, max_cached_bytes: int) -> None:
        self._archive = archive
        self._max_cached_bytes = max_cached_bytes
        self._segments: Sequence[ArchiveSegment] = archive.segments
        self._readers: OrderedDict[tuple[str, bool], SegmentReader] = OrderedDict()
        """By the name of the segment, and whether it was opened as a whole."""
        self._tables: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._cached_bytes = 0

    def next_rows(self, positions: Sequence[int]) -> dict[int, PositionedEventRow]:
        """Return the row at the first of these positions, which are in order, and those in the same row group.

        Raise ArchiveUnavailable.
        """
        from .segment_file import UNREADABLE_FILE_ERRORS, table_rows  # noqa: PLC0415 - an extra

        segment = self._segment_of(positions[0])
        try:
            reader = self._reader(segment.file, bisect_left(positions, segment.last + 1))
            group, start, end = reader.find_row_group(positions[0] - segment.first)
            wanted = positions[: bisect_left(positions, segment.first + end)]
            table = self._table(segment.file, reader, group)
            indices = [position - segment.first - start for position in wanted]
            return dict(zip(wanted, table_rows(table.take(indices)), strict=True))
        except UNREADABLE_FILE_ERRORS as error:
            raise ArchiveUnavailable(f"{segment.file} can't be read: {error}", field="archive") from error

    def close(self) -> None:
        """Close all files."""
        while self._readers:
            self._readers.popitem()[1].close()

    def _segment_of(self, position: int) -> "ArchiveSegment":
        if not self._segments or position > self._segments[-1].last:
            self._segments = self._archive.segments
        index = bisect_left(self._segments, position, key=_LAST)
        if index == len(self._segments):
            raise ArchiveUnavailable(f"it has no event at position {position}", field="archive")
        return self._segments[index]

    def _reader(self, file: str, count: int) -> "SegmentReader":
        """Return a reader of a segment, of which `count` events are to be read."""
        from .segment_file import SegmentReader  # noqa: PLC0415 - an extra

        is_whole = count > _FEW_EVENTS or (file, True) in self._readers
        key = file, is_whole
        if key not in self._readers:
            destination = self._archive.destination
            opened = destination.open_segment(file) if is_whole else destination.open_parts(file)
            self._readers[key] = SegmentReader(opened)
            if len(self._readers) > _MAX_OPEN_SEGMENTS:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(key)
        return self._readers[key]

    def _table(self, file: str, reader: "SegmentReader", group: int) -> Any:
        key = file, group
        if key not in self._tables:
            self._tables[key] = reader.stored_rows(group)
            self._cached_bytes += self._tables[key].nbytes
            while self._cached_bytes > self._max_cached_bytes and len(self._tables) > 1:
                self._cached_bytes -= self._tables.popitem(last=False)[1].nbytes
        self._tables.move_to_end(key)
        return self._tables[key]


def _open(archive: str, max_cached_bytes: int) -> _CachedArchive:
    from .locations import resolve_destination  # noqa: PLC0415 - an extra

    destination = resolve_destination(archive, _RETRY_TIMEOUT)
    if not destination.read_manifest().data:
        raise ArchiveUnavailable("no archive is there. Restore it from a backup.", field="archive")
    return _CachedArchive(ArchiveReader(destination), max_cached_bytes)


def _unavailable(archive: str, positions: Sequence[int], reason: str) -> ArchiveUnavailable:
    first, last = positions[0], positions[-1]
    which = f"event at position {first} is" if first == last else f"events at positions {first} to {last} are"
    return ArchiveUnavailable(
        f"The {which} in the archive {archive}, which can't be read: {reason} If it was moved, run "
        "'tallybook archive prune' with its new place.",
        field="archive",
        value=archive,
    )
