"""Compares the root of archived events with each checkpoint, while the events are read in order."""

from collections.abc import Iterable, Sequence

from ..checkpoints.checkpoint import Checkpoint
from .ranges import TreeRange


class CheckpointRoots:
    """The Merkle tree of the events so far, and the checkpoints that it has reached, smallest first.

    `results` states for each of these whether its root is that of the events; None if that is not known, because some
    of the events can't be read.
    """

    def __init__(self, checkpoints: Iterable[Checkpoint]) -> None:
        self._remaining = sorted(checkpoints, key=lambda checkpoint: checkpoint.size, reverse=True)
        self._tree: TreeRange | None = TreeRange()
        self._tree_before_segment: TreeRange | None = TreeRange()
        self.results: list[tuple[Checkpoint, bool | None]] = []
        self._compare_up_to(0)

    def extend(self, position: int, leaves: Sequence[bytes]) -> None:
        """Add the leaves of the events after a position."""
        if self._tree is None or self._tree.end != position:
            return
        start = 0
        while self._remaining and self._remaining[-1].size <= position + len(leaves):
            end = self._remaining[-1].size - position
            self._tree.extend(leaves[start:end])
            start = end
            self._compare_up_to(self._tree.end)
        self._tree.extend(leaves[start:])

    def end_segment(self, last: int, hashes: TreeRange | None) -> None:
        """End a segment. If not all of its rows were added, use the hashes that its line of the manifest has instead.

        `hashes` is None if there are none, or if a segment before it is missing.
        """
        if self._tree is None or self._tree.end != last:
            self._tree = self._tree_before_segment
            while self._remaining and self._remaining[-1].size < last:
                self.results.append((self._remaining.pop(), None))
            if self._tree is not None and hashes is not None and self._tree.end == hashes.start:
                self._tree.join(hashes)
            else:
                self._tree = None
        self._compare_up_to(last)
        self._tree_before_segment = None if self._tree is None else self._tree.copy()

    def _compare_up_to(self, size: int) -> None:
        """Compare the checkpoints of up to `size` events, which the tree has."""
        while self._remaining and self._remaining[-1].size <= size:
            checkpoint = self._remaining.pop()
            self.results.append((checkpoint, None if self._tree is None else self._tree.root() == checkpoint.root))
