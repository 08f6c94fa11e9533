"""A range of the leaves of the Merkle tree, as the largest subtrees of the tree that make it up.

A subtree of the level n covers 2**n leaves and starts at a multiple of that. So the hashes of adjacent ranges can be
joined to those of the whole tree without their leaves, wherever the ranges are cut.
"""

from collections.abc import Iterable, Sequence

from ..checkpoints.merkle import EMPTY_ROOT, HASH_BYTES, node_hash, parent_hashes

Subtree = tuple[int, bytes]
"""The level and the hash of a subtree."""
_MAX_LEVEL = 62
_MAX_HASHED_LEAVES = 1 << 15


class TreeRange:
    """The leaves [start, end), counted from 0. `subtrees` are the largest subtrees in it, from left to right."""

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.end = start
        self.subtrees: list[Subtree] = []

    @classmethod
    def from_subtrees(cls, start: int, end: int, subtrees: Iterable[Subtree]) -> "TreeRange":
        """Return the range [start, end) of these subtrees. Raise ValueError if they are not its largest subtrees."""
        tree_range = cls(start)
        given = list(subtrees)
        for level, subtree in given:
            tree_range.append(level, subtree)
        if tree_range.end != end or tree_range.subtrees != given:
            raise ValueError(f"the hashes do not cover the leaves [{start}, {end})")
        return tree_range

    def append(self, level: int, subtree: bytes) -> None:
        """Append a subtree at the end, and join subtrees that are the halves of a larger one. Raise ValueError."""
        if not 0 <= level <= _MAX_LEVEL or len(subtree) != HASH_BYTES or self.end % (1 << level):
            raise ValueError(f"no subtree of the level {level} starts at the leaf {self.end}")
        self.end += 1 << level
        subtrees = self.subtrees
        while subtrees and subtrees[-1][0] == level and self.end % (2 << level) == 0:
            subtree = node_hash(subtrees.pop()[1], subtree)
            level += 1
        subtrees.append((level, subtree))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append leaves, given by their hashes."""
        index, count = 0, len(leaves)
        while index < count:
            alignment = self.end & -self.end or _MAX_HASHED_LEAVES
            size = min(alignment, 1 << (count - index).bit_length() - 1, _MAX_HASHED_LEAVES)
            hashes = leaves[index : index + size]
            while len(hashes) > 1:  # one level at a time: a third of the time of joining one leaf after the other
                hashes = parent_hashes(hashes)
            self.append(size.bit_length() - 1, hashes[0])
            index += size

    def join(self, following: "TreeRange") -> None:
        """Append the range that follows this one."""
        if following.start != self.end:
            raise ValueError(f"the range that starts at the leaf {following.start} does not follow {self.end}")
        for level, subtree in following.subtrees:
            self.append(level, subtree)

    def copy(self) -> "TreeRange":
        """Return a copy, which grows independently."""
        other = TreeRange(self.start)
        other.end, other.subtrees = self.end, self.subtrees.copy()
        return other

    def root(self) -> bytes:
        """Return the root of the tree of the first `end` leaves, as RFC 6962 defines it. The range must start at 0."""
        assert self.start == 0
        if not self.subtrees:
            return EMPTY_ROOT
        root = self.subtrees[-1][1]
        for _, subtree in reversed(self.subtrees[:-1]):
            root = node_hash(subtree, root)
        return root

    def positions(self) -> Iterable[tuple[int, int]]:
        """Yield the first and the last position that each subtree covers. Positions count from 1."""
        first = self.start + 1
        for level, _ in self.subtrees:
            yield first, first + (1 << level) - 1
            first += 1 << level
