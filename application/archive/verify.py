"""Verifies an archive: its manifest, its files, its rows, and their hashes against checkpoints and the ledger.

A changed byte is found by the spelling, the hashes or the SHA-256 of a line or of a file. It is located by what still
agrees: the lines before and after, the column and the state, the subtree of a range, the event of the ledger.
"""

from collections.abc import Callable, Iterator, Sequence

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.leaves import UnexpectedPosition, leaf_data, row_pages
from ..checkpoints.merkle import leaf_hash
from ..storage.ports import PositionedEventRow, RawEventRow
from ..storage.pruned_events import PRUNED_TYPES
from .checkpoint_roots import CheckpointRoots
from .destinations import Destination
from .layout import MANIFEST, parse_segment_name
from .ledger_rows import RowReader, corrupted_row
from .manifest import ArchiveSegment, ManifestLine, ManifestReader, segment_hashes
from .ranges import TreeRange
from .results import ArchiveDifference, ArchiveVerification
from .segment_check import SegmentCheck, file_digest
from .usage_segments import FOLDER as USAGE_FOLDER

ProgressCallback = Callable[[int, int], None]


class Verifier:
    """One verification. `checkpoints` are in the order of their sizes; `ledger` is what to compare each event with."""

    def __init__(
        self,
        destination: Destination,
        checkpoints: Sequence[Checkpoint],
        ledger: RowReader | None,
        progress: ProgressCallback,
    ) -> None:
        self._destination = destination
        self._checkpoints = checkpoints
        self._ledger = ledger
        self._progress = progress
        self._roots = CheckpointRoots(checkpoints)
        self._differences: list[ArchiveDifference] = []
        self._differing_position: int | None = None

    def run(self) -> ArchiveVerification:
        """Verify everything, and return all differences."""
        reader = ManifestReader()
        lines = reader.read(self._destination.read_manifest().data)
        segments = [line.segment for line in lines if line.segment is not None]
        last = max((segment.last for segment in segments), default=0)
        head = last if self._ledger is None else self._ledger.head()
        if head < last:
            self._report(MANIFEST, head + 1, last, f"the ledger ends at position {head}")
        for line in lines:
            self._verify_line(line, head)
            self._progress(last if line.segment is None else line.segment.last, last)
        matching = self._compare_checkpoints()
        warnings = [*self._unlisted_files(segments, last), *self._unverified_usage()]
        return ArchiveVerification(
            destination=self._destination.location,
            segments=len(segments),
            rows=sum(segment.last - segment.first + 1 for segment in segments),
            last_position=last,
            root=segments[-1].root if segments else None,
            checkpoints=len(self._checkpoints),
            matching_checkpoints=matching,
            checkpointed_rows=max((checkpoint.size for checkpoint, _ in self._roots.results), default=0),
            is_compared_with_ledger=self._ledger is not None,
            differences=tuple(self._differences),
            warnings=tuple(warnings),
        )

    def _report(self, file: str, first: int | None, last: int | None, message: str) -> None:
        self._differences.append(ArchiveDifference(file, first, last, message))

    def _verify_line(self, line: ManifestLine, head: int) -> None:
        segment = line.segment
        if segment is None:
            self._report(MANIFEST, None, None, f"line {line.number}: {line.problem}")
            return
        if line.problem is not None:
            self._report(MANIFEST, segment.first, segment.last, f"line {line.number}: {line.problem}")
        try:
            expected = segment_hashes(segment)
        except ValueError:  # this is the problem of the line
            expected = None
        self._verify_segment(line.number, segment, expected, head)
        self._roots.end_segment(segment.last, expected)

    def _verify_segment(self, number: int, segment: ArchiveSegment, expected: TreeRange | None, head: int) -> None:
        """Compare a file with its line of the manifest, and its rows with the ledger."""
        first, last = segment.first, segment.last
        self._differing_position = None
        try:
            file = self._destination.open_segment(segment.file)
        except FileNotFoundError:
            self._report(segment.file, first, last, "the file is missing")
            return
        with file:
            has_digest = file_digest(file) == (segment.bytes, segment.sha256)
            check = SegmentCheck(
                segment.file, first, last, lambda position, rows, leaves: self._add_page(position, rows, leaves, head)
            ).run(file)
        self._differences += check.differences
        if self._differing_position is not None:
            position = self._differing_position
            self._report(segment.file, position, position, "the event is not that of the ledger")
        has_hashes = expected is not None and check.hashes.subtrees == expected.subtrees
        if expected is not None and check.hashes.end == last and not has_hashes:
            self._report_subtrees(number, segment, check.hashes, expected)
        if has_digest and check.differences:
            self._report(segment.file, first, last, f"line {number} has the SHA-256 of this file: both were changed")
        elif not has_digest and has_hashes and not check.differences:
            message = f"the length or the SHA-256 is not that of line {number}, although all rows are: "
            self._report(segment.file, first, last, f"{message}the line was changed, or bytes between the rows")

    def _report_subtrees(self, number: int, segment: ArchiveSegment, actual: TreeRange, expected: TreeRange) -> None:
        """Report each subtree whose hash differs between the rows and the line."""
        subtrees = zip(actual.positions(), actual.subtrees, expected.subtrees, strict=True)
        for (first, last), subtree, expected_subtree in subtrees:
            if subtree != expected_subtree:
                self._report(segment.file, first, last, f"the rows do not have the hash of line {number}")

    def _add_page(self, position: int, rows: Sequence[PositionedEventRow], leaves: Sequence[bytes], head: int) -> None:
        """Compare a page of a segment with the checkpoints and the ledger."""
        self._roots.extend(position, leaves)
        self._progress(position, max(head, position))
        end = min(position + len(leaves), head)
        if self._ledger is None or self._differing_position is not None or end <= position:
            return
        stored_rows = _ledger_rows(self._ledger, position + 1, end)
        for stored, row, leaf in zip(stored_rows, rows, leaves, strict=False):
            if not _is_same_event(stored, row, leaf):
                self._differing_position = row[0]
                return

    def _compare_checkpoints(self) -> int:
        """Report the first checkpoint that differs. Return how many match before it."""
        matched_size = 0
        for matching, (checkpoint, matches) in enumerate(self._roots.results):
            if not matches:
                message = (
                    f"the checkpoint of {checkpoint.size} events has another root"
                    if matches is not None
                    else f"the checkpoint of {checkpoint.size} events can't be compared, because rows can't be read"
                )
                self._report(MANIFEST, matched_size + 1, checkpoint.size, message)
                return matching
            matched_size = checkpoint.size
        return len(self._roots.results)

    def _unlisted_files(self, segments: Sequence[ArchiveSegment], last: int) -> list[str]:
        """Return warnings of segments that an interrupted export has left. Report others that no line names."""
        listed = {segment.file for segment in segments}
        warnings: list[str] = []
        for name in sorted(self._destination.file_names()):
            positions = parse_segment_name(name)
            if positions is None or name in listed:
                continue
            if positions[0] > last + 1:
                self._report(name, *positions, "no line of the manifest names this file: lines are missing")
            else:
                action = "adds it" if positions[0] == last + 1 else "deletes it"
                warnings.append(f"{name} was left by an interrupted export; the next export {action}.")
        return warnings

    def _unverified_usage(self) -> list[str]:
        """Return a warning if there are usage segments, which totals are computed from."""
        if not any(self._destination.file_names(USAGE_FOLDER)):
            return []
        return [f"{USAGE_FOLDER}/ has usage segments, which are not verified; delete it to compute totals from events."]


def _ledger_rows(ledger: RowReader, first: int, last: int) -> Iterator[RawEventRow]:
    """Yield the rows of the ledger, without reading what was pruned. Raise LedgerCorrupted."""
    try:
        for rows in row_pages(ledger, first, last):
            yield from rows
    except UnexpectedPosition as error:
        raise corrupted_row(error.position, f"it is {error.kind}") from error


def _is_same_event(stored: RawEventRow, row: PositionedEventRow, leaf: bytes) -> bool:
    """Return whether a row of the ledger is that of the archive, which has this leaf hash.

    The leaf hash that a pruned row has doesn't cover its other columns.
    """
    if stored[5] != PRUNED_TYPES:
        return leaf_hash(leaf_data(stored)) == leaf
    _, stream, version, topic, _ = row
    return stored[4] == leaf and stored[1:4] == (stream.encode(), b"%d" % version, topic.encode())
