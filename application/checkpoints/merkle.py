"""The Merkle tree of RFC 6962: roots and proofs from the hashes of leaves, and how to check them.

A proof is a list of hashes, from the leaves up. Checks follow the algorithms of RFC 9162, 2.1.3.2 and 2.1.4.2.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()

SubtreeRoot = Callable[[int, int], bytes]
"""Gives the root of the leaves from the first index to before the second."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def parent_hashes(nodes: Sequence[bytes]) -> list[bytes]:
    """Return the hashes of the nodes over an even number of nodes. It takes half the time of calls of `node_hash`."""
    sha256, pairs = hashlib.sha256, iter(nodes)
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]


class Tree:
    """A tree that grows leaf by leaf. It keeps the roots of its full subtrees only, each a power of two of leaves."""

    def __init__(self) -> None:
        self.size = 0
        self.subtrees: list[bytes] = []

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves, given by their hashes."""
        subtrees, size = self.subtrees, self.size
        for leaf in leaves:
            node = leaf
            size += 1
            doubled = size
            while not doubled & 1:
                node = node_hash(subtrees.pop(), node)
                doubled >>= 1
            subtrees.append(node)
        self.size = size

    def root(self) -> bytes:
        """The root of all leaves so far."""
        if not self.subtrees:
            return EMPTY_ROOT
        node = self.subtrees[-1]
        for left in reversed(self.subtrees[:-1]):
            node = node_hash(left, node)
        return node

    def copy(self) -> "Tree":
        """A tree of the same leaves, which grows by itself."""
        other = Tree()
        other.size, other.subtrees = self.size, self.subtrees.copy()
        return other


def inclusion_proof(index: int, size: int, subtree_root: SubtreeRoot) -> list[bytes]:
    """What leads from the leaf at `index` to the root of `size` leaves. RFC 6962, 2.1.1."""

    def path(start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + _left_size(end - start)
        if index < middle:
            return [*path(start, middle), subtree_root(middle, end)]
        return [*path(middle, end), subtree_root(start, middle)]

    return path(0, size)


def consistency_proof(old: int, new: int, subtree_root: SubtreeRoot) -> list[bytes]:
    """What shows that the first `old` of `new` leaves are all the leaves of an earlier root. RFC 6962, 2.1.2."""

    def path(start: int, end: int, *, is_old: bool) -> list[bytes]:
        if end == old:
            return [] if is_old else [subtree_root(start, end)]
        middle = start + _left_size(end - start)
        if old <= middle:
            return [*path(start, middle, is_old=is_old), subtree_root(middle, end)]
        return [*path(middle, end, is_old=False), subtree_root(start, middle)]

    return path(0, new, is_old=True) if old else []


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root of `size` leaves that the proof leads to; None where it can't be a proof of such a place."""
    if not 0 <= index < size:
        return None
    node, node_index, last_index = leaf, index, size - 1
    for sibling in proof:
        if last_index == 0:
            return None
        if node_index & 1 or node_index == last_index:
            node = node_hash(sibling, node)
            while node_index and not node_index & 1:
                node_index, last_index = node_index >> 1, last_index >> 1
        else:
            node = node_hash(node, sibling)
        node_index, last_index = node_index >> 1, last_index >> 1
    return node if last_index == 0 else None


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree of `old` leaves is the beginning of that of `new` leaves."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not proof and old_root == (EMPTY_ROOT if old == 0 else new_root)
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    node_index, last_index = old - 1, new - 1
    while node_index & 1:
        node_index, last_index = node_index >> 1, last_index >> 1
    if not path:
        return False
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last_index == 0:
            return False
        if node_index & 1 or node_index == last_index:
            old_node, new_node = node_hash(sibling, old_node), node_hash(sibling, new_node)
            while node_index and not node_index & 1:
                node_index, last_index = node_index >> 1, last_index >> 1
        else:
            new_node = node_hash(new_node, sibling)
        node_index, last_index = node_index >> 1, last_index >> 1
    return last_index == 0 and (old_node, new_node) == (old_root, new_root)


def _left_size(leaves: int) -> int:
    """How many of `leaves` are in the left subtree: the largest power of two below them."""
    return 1 << (leaves - 1).bit_length() - 1
