"""Usage whose state is in an archive: the ledger has its leaf hash in place of the state. See docs/decisions/0057."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ...domain.errors import ArchiveMismatch, ArchiveUnavailable
from ...projections.ports import USAGE_RECORDED
from .ports import LastPruning, PositionedEventRow, RawEventRow

LEAF_HASH_BYTES = 32
"""No state is that short: its time of recording alone is longer."""
PRUNED_TYPES = "text integer text leaf hash"
"""In place of the storage types of a raw row whose state was replaced by its leaf hash."""
_STORED_TYPES = "text integer text blob"
_RAW_TOPIC = USAGE_RECORDED.encode()
Row = TypeVar("Row", bound=tuple[Any, ...])
"""A row that begins with the position, and ends with the topic and the state."""

NEVER_PRUNED = LastPruning()
decode_last_pruning = msgspec.json.Decoder(LastPruning).decode


class NoArchivedEvents:
    """What a ledger has that was opened without access to archives."""

    def read(self, archive: str, leaf_hashes: Mapping[int, bytes]) -> Mapping[int, PositionedEventRow]:
        """Raise ArchiveUnavailable."""
        raise ArchiveUnavailable(
            f"The event at position {min(leaf_hashes)} is in the archive {archive}, which isn't read here.",
            field="archive",
            value=archive,
        )

    def close(self) -> None:
        """Do nothing."""


def pruned_hashes(rows: Sequence[Row]) -> dict[int, bytes]:
    """Return the leaf hashes that rows have in place of their states, by position."""
    rows_of_length = [row for row in rows if type(row[-1]) is bytes and len(row[-1]) == LEAF_HASH_BYTES]
    return {row[0]: row[-1] for row in rows_of_length if row[-2] == USAGE_RECORDED}


def restored(rows: Sequence[Row], archived: Mapping[int, PositionedEventRow]) -> list[Row]:
    """Return rows with the states that archived rows have. Raise ArchiveMismatch if a row has another heading."""
    for row in rows:
        archived_row = archived.get(row[0])
        if archived_row is not None and row[1:-1] != archived_row[6 - len(row) : 4]:
            raise ArchiveMismatch(
                f"The event at position {row[0]} has another stream, version or topic than it had when the history was "
                "pruned: it was changed. 'tallybook verify --checkpoints' compares all events.",
                field="position",
                value=row[0],
            )
    return [(*row[:-1], archived[row[0]][4]) if row[0] in archived else row for row in rows]  # pyright: ignore[reportReturnType] - of the same types


def mark_pruned(row: RawEventRow, pruning: LastPruning) -> RawEventRow:
    """Return a raw row with PRUNED_TYPES, if a pruning covers its position and it has a leaf hash."""
    if row[0] <= pruning.position and row[5] == _STORED_TYPES and has_leaf_hash(row):
        return (*row[:5], PRUNED_TYPES)
    return row


def has_leaf_hash(row: RawEventRow) -> bool:
    """Return whether the state of a raw row can be the leaf hash of recorded usage."""
    return len(row[4]) == LEAF_HASH_BYTES and row[3] == _RAW_TOPIC
