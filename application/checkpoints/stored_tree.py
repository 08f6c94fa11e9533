"""The Merkle tree of a ledger, stored in it as the roots of its full blocks of 4,096 events.

With them, the root of any number of events, and any proof, needs the rows of two blocks at most, however large the
ledger is. The roots need not be trusted: what is computed with them is compared with a signed checkpoint.
"""

from collections.abc import Callable, Iterator
from functools import partial

from ..ledger.ledger import Ledger
from ..storage.key_value import KeyValueEntry, KeyValueStore
from .hash_worker import BlockHasher, hash_blocks
from .leaves import UnexpectedPosition, hash_pages
from .merkle import HASH_BYTES, Tree

KIND = "checkpoint_tree"
BLOCK_SIZE = 4_096
"""Events of a block."""
_BLOCKS_PER_CHUNK = 4
"""Hashed by one call."""
_BLOCKS_PER_ENTRY = 256
_MAX_ENTRIES = 100_000


class StoredTree:
    """The tree of a ledger. It grows with it, and each process continues where another one stopped."""

    def __init__(self, ledger: Ledger, key_values: KeyValueStore, *, block_size: int = BLOCK_SIZE) -> None:
        self._block_size = block_size
        self.hash_blocks: BlockHasher = partial(hash_blocks, ledger)
        self._ledger = ledger
        self._key_values = key_values
        self._blocks = self._stored_blocks()

    @property
    def size(self) -> int:
        """Return how many events are in full blocks."""
        return len(self._blocks) * self._block_size

    def extend(self, size: int, progress: Callable[[int, int], None]) -> None:
        """Add the blocks that are full with `size` events. Raises UnexpectedPosition."""
        for _ in self.new_leaves(size, progress):
            pass

    def new_leaves(self, size: int, progress: Callable[[int, int], None]) -> Iterator[bytes]:
        """Yield the leaf hashes after the last full block, up to `size` events, and add the blocks that become full.

        Each value has many of them, one after the other. The blocks are stored on the way and when the iterator ends.
        Raises UnexpectedPosition.
        """
        first, start = len(self._blocks), self.size
        chunk_size = self._block_size * _BLOCKS_PER_CHUNK
        for done in range(start, size, chunk_size):
            last = min(done + chunk_size, size)
            hashed = self.hash_blocks(done + 1, last, self._block_size)
            self._blocks += hashed.roots
            if len(self._blocks) - first >= _BLOCKS_PER_ENTRY:
                self._store(first)
                first = len(self._blocks)
            if hashed.unexpected is not None:
                raise UnexpectedPosition(*hashed.unexpected)
            yield hashed.leaves
            progress(last, size)
        self._store(first)

    def forget(self) -> None:
        """Delete all roots, so that they are computed again from the ledger."""
        entries = range(-(-len(self._blocks) // _BLOCKS_PER_ENTRY))
        self._key_values.apply(delete=[(KIND, _key(number)) for number in entries])
        self._blocks = []

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` events. Raises UnexpectedPosition."""
        return self.subtree_root(0, size)

    def subtree_root(self, start: int, end: int) -> bytes:
        """Return the root of the leaves [start, end), a subtree of the tree. Raises UnexpectedPosition.

        A subtree of more than a block starts with a block, and a smaller one is inside one.
        """
        first, last = -(-start // self._block_size), min(end // self._block_size, len(self._blocks))
        tree, position = Tree(), start
        if start % self._block_size == 0 and last > first:
            tree.extend(self._blocks[first:last])
            tree.size, position = tree.size * self._block_size, last * self._block_size
        for page in hash_pages(self._ledger, position + 1, end):
            tree.extend(page)
        return tree.root()

    def _stored_blocks(self) -> list[bytes]:
        entries = self._key_values.scan(KIND, limit=_MAX_ENTRIES)
        data = b"".join(entry.body for entry in entries)
        return [data[offset : offset + HASH_BYTES] for offset in range(0, len(data) - HASH_BYTES + 1, HASH_BYTES)]

    def _store(self, first: int) -> None:
        """Store the blocks from `first` on, with those of the same entry."""
        entries: list[KeyValueEntry] = []
        for number in range(first // _BLOCKS_PER_ENTRY, -(-len(self._blocks) // _BLOCKS_PER_ENTRY)):
            blocks = self._blocks[number * _BLOCKS_PER_ENTRY : (number + 1) * _BLOCKS_PER_ENTRY]
            entries.append(KeyValueEntry(KIND, _key(number), 0, b"".join(blocks)))
        if first < len(self._blocks):
            self._key_values.apply(upsert=entries)


def _key(number: int) -> str:
    return f"{number:010}"
