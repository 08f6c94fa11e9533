"""The stored events of an evidence pack, and the hashes that lead from them to the root of its checkpoint.

A single inclusion proof of each of 300,000 events would take 264 megabytes. All events together are proved by the
hashes of the largest subtrees between them: with their own leaf hashes, these make up the whole tree.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from ...domain.errors import CheckpointMismatch, InvalidCheckpointFile, LedgerCorrupted
from ..archive.ranges import TreeRange
from ..checkpoints.checkpoint import Checkpoint, to_base64
from ..checkpoints.leaves import LeafHashFile, event_leaf_data
from ..checkpoints.merkle import HASH_BYTES, leaf_hash
from ..ledger.ledger import Ledger
from .pack_file import HashingWriter

_BATCH_SIZE = 1_000
_LEAVES_AT_ONCE = 10_000


def write_events(file: HashingWriter, ledger: Ledger, positions: Iterable[int]) -> bytes:
    """Write two lines for each event, the heading and the state that are hashed; return all leaf hashes in order."""
    hashes = bytearray()
    remaining = iter(positions)
    while batch := list(islice(remaining, _BATCH_SIZE)):
        rows = sorted(ledger.ledger_recorder.select_at(batch))
        for row in rows:
            if b"\n" in row[4]:
                raise LedgerCorrupted(
                    f"The event at position {row[0]} has a line break, which the ledger never writes.",
                    field="position",
                    value=row[0],
                )
            data = event_leaf_data(row)
            hashes += leaf_hash(data)
            file.write(data + b"\n")
    return bytes(hashes)


def write_hashes(
    file: HashingWriter, checkpoint: Checkpoint, leaves: LeafHashFile, positions: Iterable[int], own_hashes: bytes
) -> None:
    """Write a line for each event, `event`, and for each subtree between them, its level and hash, from left to right.

    Raises CheckpointMismatch if the events do not lead to the root of the checkpoint, and InvalidCheckpointFile.
    """
    stored_hashes = chain.from_iterable(leaves.pages(0, checkpoint.size))
    tree = TreeRange()
    for index, position in enumerate(positions):
        _write_gap(file, tree, stored_hashes, position - 1)
        own_hash = own_hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]
        stored_hash = next(stored_hashes, None)
        if stored_hash is not None and stored_hash != own_hash:
            raise CheckpointMismatch(
                f"The event at position {position} is not as it was checkpointed, or {leaves.path} was changed; "
                "'tallybook verify --checkpoints' shows which.",
                field="position",
                value=position,
            )
        tree.append(0, own_hash)
        file.write(b"event\n")
    _write_gap(file, tree, stored_hashes, checkpoint.size)
    if tree.end != checkpoint.size or tree.root() != checkpoint.root:
        raise InvalidCheckpointFile(
            f"{leaves.path} is missing or changed; 'tallybook checkpoint create' writes it again.",
            field="file",
            value=leaves.path,
        )


def _write_gap(file: HashingWriter, tree: TreeRange, stored_hashes: Iterator[bytes], end: int) -> None:
    """Write the largest subtrees from the end of the tree until `end`, and append them to the tree."""
    gap = TreeRange(tree.end)
    while gap.end < end:
        batch = list(islice(stored_hashes, min(end - gap.end, _LEAVES_AT_ONCE)))
        if not batch:
            return
        gap.extend(batch)
    for level, digest in gap.subtrees:
        file.write(f"{level} {to_base64(digest)}\n".encode())
    tree.join(gap)
