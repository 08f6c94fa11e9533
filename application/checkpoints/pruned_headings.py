"""Verifies the headings of pruned events: their streams, versions and topics.

The leaf of a pruned event is what the ledger has in place of its state, so a changed heading doesn't change the root.
Each event HistoryPruned has the digest of all headings up to its position instead, and is a leaf itself. Somebody who
changes a heading can append a HistoryPruned with its digest, so a pruning is compared with its archive before the first
checkpoint covers it.
"""

import hashlib
from collections.abc import Iterator

import msgspec

from ...domain.errors import ArchiveMismatch, CheckpointMismatch
from ...domain.history_pruning import STREAM_PREFIX
from ..ledger.ledger import Ledger
from ..storage.ports import LastPruning
from ..storage.pruned_events import NEVER_PRUNED, PRUNED_TYPES, decode_last_pruning
from .comparison import CheckpointDifference
from .leaves import EXPECTED_TYPES, leaf_data, row_pages

_ROWS_PER_PAGE = 1_000


def headings_digest(ledger: Ledger, last: int) -> str:
    """Return the SHA-256 of a line [position,stream,version,topic] for each event up to a position."""
    return next(_headings_digests(ledger, [last]))


def check_headings(ledger: Ledger) -> CheckpointDifference | None:
    """Return where a heading was changed since a pruning; None if none was. The positions must be complete."""
    head = ledger.head()
    prunings = [pruning for _, pruning in _prunings(ledger)]
    positions = [min(pruning.position, head) for pruning in prunings]  # the event HistoryPruned may be what was changed
    if positions != sorted(positions) or (positions and positions[0] <= 0):
        return _difference(max(1, *positions))
    for position, pruning, digest in zip(positions, prunings, _headings_digests(ledger, positions), strict=True):
        if digest != pruning.headings:
            return _difference(position)
    return None


def check_new_prunings(ledger: Ledger, checkpointed: int) -> CheckpointDifference | None:
    """Compare what was pruned since a checkpoint of so many events with its archive; return where it differs.

    The archive has the headings that the leaf hashes cover. Raises ArchiveUnavailable if it can't be read.
    """
    prunings = _prunings(ledger)
    first = 1 + max((pruning.position for at, pruning in prunings if at <= checkpointed), default=0)
    last = max((pruning.position for at, pruning in prunings if at > checkpointed), default=0)
    for start in range(first, last + 1, _ROWS_PER_PAGE):
        end = min(start + _ROWS_PER_PAGE - 1, last)
        try:
            ledger.stored_rows(start, end)
        except ArchiveMismatch as error:
            return CheckpointDifference(start, end, error.message)
    return None


def require_new_prunings(ledger: Ledger, checkpointed: int) -> None:
    """Raise CheckpointMismatch if what was pruned since a checkpoint differs from its archive.

    Raise ArchiveUnavailable if that can't be read.
    """
    changed = check_new_prunings(ledger, checkpointed)
    if changed is not None:
        raise CheckpointMismatch(changed.message, field="position", value=changed.first_position)


def _prunings(ledger: Ledger) -> list[tuple[int, LastPruning]]:
    """Return all prunings of the history, in the order of their numbers, each with the position of its event."""
    return [(stored.id, _decode(stored.state)) for stored in ledger.ledger_recorder.select_by_prefix(STREAM_PREFIX)]


def _decode(state: bytes) -> LastPruning:
    try:
        return decode_last_pruning(state)
    except msgspec.MsgspecError:  # it was changed
        return NEVER_PRUNED


def _headings_digests(ledger: Ledger, positions: list[int]) -> Iterator[str]:
    """Yield the digest of the headings up to each of these positions, which never decrease."""
    digest, done = hashlib.sha256(), 0
    for position in positions:
        for rows in row_pages(ledger, done + 1, position) if done < position else ():
            for row in rows:
                types = EXPECTED_TYPES if row[5] == PRUNED_TYPES else row[5]
                digest.update(leaf_data((*row[:4], b"", types)))
        done = max(done, position)
        yield digest.hexdigest()


def _difference(last: int) -> CheckpointDifference:
    return CheckpointDifference(
        1,
        last,
        f"The stream, version or topic of an event at one of the positions from 1 to {last} was changed since the "
        "history was pruned, or the event HistoryPruned was.",
    )
