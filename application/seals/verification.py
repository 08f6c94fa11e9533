"""Comparing a ledger with its seals: in one pass whether it is as it was sealed, and only if not in another where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .checkpoint import Checkpoint
from .leaf_hashes import LeafHashes
from .ledger_leaves import OutOfOrder, StoredRows, Wrong, hash_pages, row_pages
from .merkle import Tree

Advance = Callable[[int, int], None]
"""Told after each page: the position reached, and the last that there is to reach."""

_SAID: dict[Wrong, str] = {
    "changed": "The event at position {} was changed",
    "missing": "The event at position {} is missing",
    "inserted": "There is an event at position {} that no ledger wrote",
}


@dataclass(frozen=True, slots=True)
class SealDifference:
    """The first position that isn't as it was sealed: it is from `first` to `last`, and mostly these are the same."""

    first: int
    last: int
    message: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one pass found.

    `tree` is of the events up to the last checkpoint that matches; `agreeing` tells of each checkpoint whether it does;
    `kept` is how many of the hashes beside the seals, from the first on, are those of the ledger.
    """

    tree: Tree
    agreeing: tuple[bool, ...]
    kept: int
    difference: SealDifference | None


def compare(ledger: StoredRows, checkpoints: Sequence[Checkpoint], hashes: LeafHashes, advance: Advance) -> Comparison:
    """Compare the ledger with checkpoints, smallest first. No state is read for what it says."""
    walk = _Walk(ledger, hashes, checkpoints[-1].size if checkpoints else 0, advance)
    agreeing: list[bool] = []
    matched, after = Tree(), 0
    for number, checkpoint in enumerate(checkpoints, 1):
        agreeing.append(walk.reaches(checkpoint.size) and walk.tree.root() == checkpoint.root)
        if agreeing[-1]:
            matched, after = walk.tree.copy(), number
    difference = None
    if after < len(checkpoints):
        difference = _locate(walk, ledger, hashes, matched, checkpoints[after])
    return Comparison(matched, tuple(agreeing), walk.kept, difference)


def check_order(ledger: StoredRows, first: int, last: int) -> SealDifference | None:
    """Where the positions of events that aren't sealed yet are not one after the other."""
    try:
        for _ in row_pages(ledger, first, last):
            pass
    except OutOfOrder as broken:
        return at_position(broken.position, broken.wrong)
    return None


def at_position(position: int, wrong: Wrong) -> SealDifference:
    """A difference that is located exactly."""
    return SealDifference(position, position, f"{_SAID[wrong].format(position)}.")


class _Walk:
    """One pass over the stored events, and the tree that they make on the way."""

    def __init__(self, ledger: StoredRows, hashes: LeafHashes, last: int, advance: Advance) -> None:
        self.tree = Tree()
        self.kept = 0
        self.broken: OutOfOrder | None = None
        self._ledger = ledger
        self._hashes = hashes
        self._last = last
        self._advance = advance

    def reaches(self, size: int) -> bool:
        """Go on to so many events; not, if the positions up to there aren't 1, 2, 3 and so on."""
        if self.broken is not None:
            return False
        try:
            for page in hash_pages(self._ledger, self.tree.size + 1, size):
                self._compare(page)
                self.tree.extend(page)
                self._advance(self.tree.size, self._last)
        except OutOfOrder as broken:
            self.broken = broken
            return False
        return True

    def _compare(self, page: list[bytes]) -> None:
        at = self.tree.size
        if self.kept == at and next(self._hashes.pages(at, at + len(page)), None) == page:
            self.kept += len(page)


def _locate(
    walk: _Walk, ledger: StoredRows, hashes: LeafHashes, matched: Tree, checkpoint: Checkpoint
) -> SealDifference:
    """The first difference after what matched, by the hashes beside the seals if these are as they were sealed."""
    if _are_as_sealed(hashes, matched, checkpoint):
        try:
            at = matched.size
            for now, then in zip(
                hash_pages(ledger, at + 1, checkpoint.size), hashes.pages(at, checkpoint.size), strict=False
            ):
                for one, other in zip(now, then, strict=False):
                    at += 1
                    if one != other:
                        return at_position(at, "changed")
        except OutOfOrder as found:
            return at_position(found.position, found.wrong)
    first, last = matched.size + 1, checkpoint.size
    if walk.broken is None and walk.kept >= checkpoint.size:
        return SealDifference(
            first,
            last,
            f"The seal of {checkpoint.size} events doesn't match, but the ledger agrees with {hashes.path}: that seal "
            f"was changed, or else both of these, first at one of the positions from {first} to {last}.",
        )
    if walk.broken is not None:
        first, last = min(first, walk.broken.position), min(last, walk.broken.position)
    return SealDifference(
        first,
        last,
        f"The first event that was changed is at one of the positions from {first} to {last}, unless the seal of "
        f"{checkpoint.size} events was changed itself. {hashes.path}, by which to tell, is missing or doesn't match "
        f"that seal either.",
    )


def _are_as_sealed(hashes: LeafHashes, matched: Tree, checkpoint: Checkpoint) -> bool:
    tree = matched.copy()
    for page in hashes.pages(matched.size, checkpoint.size):
        tree.extend(page)
    return tree.size == checkpoint.size and tree.root() == checkpoint.root
