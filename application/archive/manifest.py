"""The manifest: a line of JSON for each segment, in order, in exactly one spelling.

Every part of a line is checked: the positions against the line before and the name of the file, the hashes against the
root, and the rest by the one spelling that is allowed. The length and the SHA-256 are checked against the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from ...domain.errors import ArchiveMismatch
from ..checkpoints.checkpoint import from_base64, to_base64
from .layout import MANIFEST, VERSION, segment_name
from .ranges import TreeRange


@dataclass(frozen=True, slots=True)
class ArchiveSegment:
    """A segment: the events at the positions `first` to `last`, both included, in one Parquet file.

    `range` are the levels and hashes of the subtrees of the Merkle tree that its events make up. `root` is the root of
    the tree of all events up to `last`, as in a checkpoint. Hashes are in base64, and `sha256` is that of the file.
    """

    version: int
    first: int
    last: int
    file: str
    bytes: int
    sha256: str
    range: tuple[tuple[int, str], ...]
    root: str


_decode = msgspec.json.Decoder(ArchiveSegment).decode
_encode = msgspec.json.Encoder().encode


def parse_segment(line: bytes) -> ArchiveSegment:
    """Return the segment of a line without its newline. Raise ValueError, also for another spelling of the same.

    The range isn't checked: see `segment_hashes`.
    """
    try:
        segment = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"it can't be read: {error}") from error
    if segment.version != VERSION:
        raise ValueError(f"it has the version {segment.version}; this version of Tallybook reads version {VERSION}")
    if segment.file != segment_name(segment.first, segment.last) or not 1 <= segment.first <= segment.last:
        raise ValueError(f"the file is {segment.file!r}, and the positions are {segment.first} to {segment.last}")
    if _encode(segment) != line:
        raise ValueError("it is not spelled as Tallybook writes it")
    return segment


def segment_hashes(segment: ArchiveSegment) -> TreeRange:
    """Return the hashes of the events of a segment. Raise ValueError if its range isn't one of its positions."""
    subtrees = [(level, from_base64(subtree)) for level, subtree in segment.range]
    return TreeRange.from_subtrees(segment.first - 1, segment.last, subtrees)


class ManifestLine(NamedTuple):
    """A line of the manifest, counted from 1: its segment unless it can't be read, and what is wrong with it."""

    number: int
    segment: ArchiveSegment | None
    problem: str | None


class ManifestReader:
    """Reads the lines of a manifest one after the other, and joins the hashes of their segments."""

    def __init__(self) -> None:
        self.last = 0
        self.tree: TreeRange | None = TreeRange()
        """The hashes of all events so far; None after a line without correct hashes."""
        self._root_differs = False

    def read(self, data: bytes) -> list[ManifestLine]:
        """Return all lines."""
        lines = data.split(b"\n")
        incomplete = lines.pop()
        read = [self._read_line(number, line) for number, line in enumerate(lines, 1)]
        if incomplete:
            read.append(ManifestLine(len(lines) + 1, None, "it has no newline at its end"))
        return read

    def _read_line(self, number: int, line: bytes) -> ManifestLine:
        try:
            segment = parse_segment(line)
        except ValueError as error:
            self.tree = None
            return ManifestLine(number, None, str(error))
        problem = self._order_problem(segment) or self._hashes_problem(segment)
        self.last = segment.last
        return ManifestLine(number, segment, problem)

    def _order_problem(self, segment: ArchiveSegment) -> str | None:
        expected = self.last + 1
        if segment.first == expected:
            return None
        if self.tree is not None or segment.first < expected:  # else the line before it can't be read
            self.tree = None
            gap = f"the positions from {expected} to {segment.first - 1} are missing"
            overlap = f"the positions up to {expected - 1} are in the line before"
            return f"it starts at position {segment.first}: {gap if segment.first > expected else overlap}"
        return None

    def _hashes_problem(self, segment: ArchiveSegment) -> str | None:
        """Return what is wrong with the range or the root. One wrong range changes all roots after it."""
        try:
            hashes = segment_hashes(segment)
        except ValueError as error:
            self.tree = None
            return f"its range is wrong: {error}"
        if self.tree is None:
            return None
        self.tree.join(hashes)
        was_different, self._root_differs = self._root_differs, to_base64(self.tree.root()) != segment.root
        if self._root_differs and not was_different:
            return "its root is not that of the hashes up to this line, so its range or its root was changed"
        return None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The segments of an archive, in order and without gaps, and the hashes of all their events."""

    segments: Sequence[ArchiveSegment]
    tree: TreeRange

    @classmethod
    def parse(cls, data: bytes, location: str) -> "Manifest":
        """Return the manifest. Raise ArchiveMismatch at the first line with a problem."""
        reader = ManifestReader()
        segments: list[ArchiveSegment] = []
        for line in reader.read(data):
            if line.segment is None or line.problem is not None:
                raise ArchiveMismatch(
                    f"Line {line.number} of {MANIFEST} in {location} was changed: {line.problem}. "
                    "'tallybook archive verify' checks the archive.",
                    field="destination",
                    value=location,
                )
            segments.append(line.segment)
        assert reader.tree is not None
        return cls(segments, reader.tree)

    @property
    def last(self) -> int:
        """The last archived position; 0 if there is none."""
        return self.tree.end

    def line_after(self, hashes: TreeRange, file_bytes: int, sha256: str) -> bytes:
        """Return the line of the segment with these events, which follow the archived ones. It ends with a newline."""
        tree = self.tree.copy()
        tree.join(hashes)
        first, last = hashes.start + 1, hashes.end
        subtrees = tuple((level, to_base64(subtree)) for level, subtree in hashes.subtrees)
        root = to_base64(tree.root())
        segment = ArchiveSegment(VERSION, first, last, segment_name(first, last), file_bytes, sha256, subtrees, root)
        return _encode(segment) + b"\n"
