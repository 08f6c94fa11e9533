"""Leaves of the Merkle tree: the rows of stored events, and the file of their hashes."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from ...domain.errors import InvalidCheckpointFile
from ..storage.ports import PositionedEventRow, RawEventRow
from ..storage.private_files import private_opener_without_links
from ..storage.pruned_events import PRUNED_TYPES
from .merkle import HASH_BYTES, Tree, leaf_hash

EXPECTED_TYPES = "text integer text blob"
_encode = msgspec.json.Encoder().encode


def leaf_data(row: RawEventRow) -> bytes:
    """Return the bytes to hash: a line of JSON, [position, stream, version, topic], followed by the state.

    Different rows have different bytes. A row that Tallybook does not write, with invalid UTF-8 or a value of another
    type than its column, becomes a JSON object of types and hexadecimal bytes instead.
    """
    position, stream, version, topic, state, types = row
    if types == EXPECTED_TYPES:
        try:
            return event_leaf_data((position, stream.decode(), int(version), topic.decode(), state))
        except UnicodeDecodeError:
            pass
    values = [(value or b"").hex() for value in (stream, version, topic, state)]  # the type distinguishes NULL
    return _encode({"position": position, "types": types, "values": values})


def stored_leaf_data(ledger: "RowReader", position: int) -> bytes | None:
    """Return the bytes to hash of the event at a position; None if there is none.

    Those of a pruned event are read from its archive. Raises ArchiveUnavailable or ArchiveMismatch.
    """
    rows = ledger.raw_rows(position, position, 1)
    if rows and rows[0][5] == PRUNED_TYPES:
        (stored,) = ledger.stored_rows(position, position)
        return event_leaf_data(stored)
    return leaf_data(rows[0]) if rows else None


def event_leaf_data(row: PositionedEventRow) -> bytes:
    """Return the bytes to hash of a row whose columns have the types that Tallybook writes."""
    return _encode(row[:4]) + b"\n" + row[4]


def leaf_hashes(rows: Iterable[PositionedEventRow]) -> list[bytes]:
    """Return the leaf hash of each of these rows, faster than calls of `event_leaf_data` and `leaf_hash`."""
    encode, sha256 = _encode, hashlib.sha256
    return [
        sha256(b"\x00" + encode((position, stream, version, topic)) + b"\n" + state).digest()
        for position, stream, version, topic, state in rows
    ]


PAGE_SIZE = 10_000


class LeafHashFile:
    """A file of 32 bytes for each event. An incomplete hash at its end is the result of a crash.

    Its name is derived from that of the checkpoint file, so it may not be a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def for_checkpoints(cls, checkpoint_file: Path) -> "LeafHashFile":
        """Return the leaf hash file of a checkpoint file."""
        return cls(checkpoint_file.with_name(f"{checkpoint_file.name}.leaves"))

    def pages(self, start: int, end: int) -> Iterator[list[bytes]]:
        """Yield pages of the hashes [start, end); fewer if the file is shorter or missing."""
        try:
            with open(self.path, "rb", opener=private_opener_without_links) as file:
                file.seek(start * HASH_BYTES)
                for first in range(start, end, PAGE_SIZE):
                    data = file.read((min(first + PAGE_SIZE, end) - first) * HASH_BYTES)
                    yield [
                        data[offset : offset + HASH_BYTES]
                        for offset in range(0, len(data) - HASH_BYTES + 1, HASH_BYTES)
                    ]
        except FileNotFoundError:
            return
        except OSError as error:
            raise _file_error(self.path, error) from error

    def subtree_root(self, start: int, end: int) -> bytes:
        """Return the root of the leaves [start, end). Raises InvalidCheckpointFile if a hash is missing."""
        tree = Tree()
        for page in self.pages(start, end):
            tree.extend(page)
        if tree.size != end - start:
            raise InvalidCheckpointFile(
                f"{self.path} is missing or too short; 'tallybook checkpoint create' writes it again.",
                field="file",
                value=self.path,
            )
        return tree.root()

    def replace_from(self, index: int, pages: Iterable[bytes]) -> None:
        """Replace all hashes from `index` on, by pages of hashes in one value. They are durable when this returns.

        If the iterator of pages raises an error, a new file is removed again.
        """
        is_new = not self.path.exists()
        try:
            with open(self.path, "w+b" if is_new else "r+b", opener=private_opener_without_links) as file:
                file.truncate(index * HASH_BYTES)
                file.seek(index * HASH_BYTES)
                file.writelines(pages)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _file_error(self.path, error) from error
        except BaseException:
            if is_new:
                self.path.unlink(missing_ok=True)
            raise


def _file_error(path: Path, error: OSError) -> InvalidCheckpointFile:
    return InvalidCheckpointFile(f"{path} cannot be used: {error.strerror}.", field="file", value=path)


_MIN_POSITION = -(2**63)

ChangeKind = Literal["changed", "missing", "inserted"]


class RawRowReader(Protocol):
    """Reads the rows of a ledger as they are stored."""

    def head(self) -> int: ...  # noqa: D102
    def raw_rows(self, first: int, last: int, limit: int) -> Sequence[RawEventRow]: ...  # noqa: D102


class RowReader(RawRowReader, Protocol):
    """Reads the rows of a ledger also with the states of pruned events."""

    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]: ...  # noqa: D102


class UnexpectedPosition(Exception):
    """The positions are not 1, 2, 3 and so on: a position is missing or not expected."""

    def __init__(self, position: int, kind: ChangeKind) -> None:
        super().__init__(position, kind)
        self.position = position
        self.kind: ChangeKind = kind


def row_pages(ledger: RawRowReader, first: int, last: int) -> Iterator[Sequence[RawEventRow]]:
    """Yield pages of the rows at the positions `first` to `last`. Raises UnexpectedPosition after the last correct row.

    If `first` is 1, rows below position 1 are unexpected too.
    """
    for start in range(first, max(first, last) + 1, PAGE_SIZE):
        end = min(start + PAGE_SIZE - 1, last)
        # A page is a range of positions, not a number of rows: two rows at one position are in the same page.
        rows = ledger.raw_rows(_MIN_POSITION if start == 1 else start, end, PAGE_SIZE + 1)
        if [row[0] for row in rows] == list(range(start, end + 1)):
            yield rows
            continue
        for index, (row, position) in enumerate(zip_longest(rows, range(start, end + 1))):
            if row is None or position is None or row[0] != position:
                yield rows[:index]
                raise _unexpected_position(None if row is None else row[0], position)


def hash_pages(ledger: RawRowReader, first: int, last: int) -> Iterator[list[bytes]]:
    """Yield pages of the leaf hashes of the positions `first` to `last`. Raises UnexpectedPosition like `row_pages`."""
    for rows in row_pages(ledger, first, last):
        yield [row[4] if row[5] == PRUNED_TYPES else leaf_hash(leaf_data(row)) for row in rows]


def _unexpected_position(actual: int | None, expected: int | None) -> UnexpectedPosition:
    if actual is not None and (expected is None or actual < expected):
        return UnexpectedPosition(actual, "inserted")
    assert expected is not None
    return UnexpectedPosition(expected, "missing")
