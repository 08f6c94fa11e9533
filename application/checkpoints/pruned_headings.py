"""Verifies the headings of pruned events: their streams, versions and topics.

The leaf of a pruned event is what the ledger has in place of its state, so a changed heading doesn't change the root.
The event HistoryPruned has the digest of all headings up to its position instead, and is a leaf itself.
"""

import hashlib

from ..ledger.ledger import Ledger
from ..storage.pruned_events import PRUNED_TYPES
from .comparison import CheckpointDifference
from .leaves import EXPECTED_TYPES, leaf_data, row_pages


def headings_digest(ledger: Ledger, last: int) -> str:
    """Return the SHA-256 of a line [position,stream,version,topic] for each event up to a position."""
    digest = hashlib.sha256()
    for rows in row_pages(ledger, 1, last) if last else ():
        digest.update(
            b"".join(leaf_data((*row[:4], b"", EXPECTED_TYPES if row[5] == PRUNED_TYPES else row[5])) for row in rows)
        )
    return digest.hexdigest()


def check_headings(ledger: Ledger) -> CheckpointDifference | None:
    """Return where a heading was changed since the last pruning; None if none was. The positions must be complete."""
    pruning = ledger.ledger_recorder.last_pruning()
    last = min(pruning.position, ledger.head())  # the event HistoryPruned may be what was changed
    if last <= 0 or headings_digest(ledger, last) == pruning.headings:
        return None
    return CheckpointDifference(
        1,
        last,
        f"The stream, version or topic of an event at one of the positions from 1 to {last} was changed since the "
        "history was pruned, or the event HistoryPruned was.",
    )
