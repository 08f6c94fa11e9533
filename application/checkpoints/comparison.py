"""Compares a ledger with its checkpoints in one pass, and locates the first difference in a second one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .checkpoint import Checkpoint
from .leaves import ChangeKind, LeafHashFile, RawRowReader, UnexpectedPosition, hash_pages, row_pages
from .merkle import Tree

ProgressCallback = Callable[[int, int], None]
"""Called after each page with the position reached and the last position."""

_MESSAGES: dict[ChangeKind, str] = {
    "changed": "The event at position {} was changed",
    "missing": "The event at position {} is missing",
    "inserted": "There is an event at position {} that no ledger wrote",
}


@dataclass(frozen=True, slots=True)
class CheckpointDifference:
    """The first position that differs, between `first_position` and `last_position`; mostly these are equal."""

    first_position: int
    last_position: int
    message: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing a ledger with its checkpoints.

    `tree` contains the events up to the last matching checkpoint. `matches` states for each checkpoint whether it
    matches. `matching_hashes` is the number of stored leaf hashes, from the first on, that equal those of the ledger.
    """

    tree: Tree
    matches: tuple[bool, ...]
    matching_hashes: int
    difference: CheckpointDifference | None


def compare(
    ledger: RawRowReader, checkpoints: Sequence[Checkpoint], hashes: LeafHashFile, progress: ProgressCallback
) -> Comparison:
    """Compare the ledger with checkpoints, smallest first. No state is read for what it says."""
    walk = _TreeWalk(ledger, hashes, checkpoints[-1].size if checkpoints else 0, progress)
    matches: list[bool] = []
    matched, matched_count = Tree(), 0
    for number, checkpoint in enumerate(checkpoints, 1):
        matches.append(walk.advance_to(checkpoint.size) and walk.tree.root() == checkpoint.root)
        if matches[-1]:
            matched, matched_count = walk.tree.copy(), number
    difference = None
    if matched_count < len(checkpoints):
        difference = _locate(walk, ledger, hashes, matched, checkpoints[matched_count])
    return Comparison(matched, tuple(matches), walk.matching_hashes, difference)


def check_position_order(ledger: RawRowReader, first: int, last: int) -> CheckpointDifference | None:
    """Return the first gap or extra position after the last checkpoint, if any."""
    try:
        for _ in row_pages(ledger, first, last):
            pass
    except UnexpectedPosition as error:
        return exact_difference(error.position, error.kind)
    return None


def exact_difference(position: int, kind: ChangeKind) -> CheckpointDifference:
    """A difference that is located exactly."""
    return CheckpointDifference(position, position, f"{_MESSAGES[kind].format(position)}.")


class _TreeWalk:
    """One pass over the stored events, and the tree that they make on the way."""

    def __init__(self, ledger: RawRowReader, hashes: LeafHashFile, last: int, progress: ProgressCallback) -> None:
        self.tree = Tree()
        self.matching_hashes = 0
        self.error: UnexpectedPosition | None = None
        self._ledger = ledger
        self._hashes = hashes
        self._last = last
        self._progress = progress

    def advance_to(self, size: int) -> bool:
        """Advance to a number of events; do nothing if the positions up to it are not 1, 2, 3 and so on."""
        if self.error is not None:
            return False
        try:
            for page in hash_pages(self._ledger, self.tree.size + 1, size):
                self._compare(page)
                self.tree.extend(page)
                self._progress(self.tree.size, self._last)
        except UnexpectedPosition as error:
            self.error = error
            return False
        return True

    def _compare(self, page: list[bytes]) -> None:
        index = self.tree.size
        if self.matching_hashes == index and next(self._hashes.pages(index, index + len(page)), None) == page:
            self.matching_hashes += len(page)


def _locate(
    walk: _TreeWalk, ledger: RawRowReader, hashes: LeafHashFile, matched: Tree, checkpoint: Checkpoint
) -> CheckpointDifference:
    """Return the first difference after the matching events; exact if the stored hashes match the checkpoint."""
    if _match_checkpoint(hashes, matched, checkpoint):
        try:
            position = matched.size
            for current_page, stored_page in zip(
                hash_pages(ledger, position + 1, checkpoint.size), hashes.pages(position, checkpoint.size), strict=False
            ):
                for current, stored in zip(current_page, stored_page, strict=False):
                    position += 1
                    if current != stored:
                        return exact_difference(position, "changed")
        except UnexpectedPosition as error:
            return exact_difference(error.position, error.kind)
    first, last = matched.size + 1, checkpoint.size
    if walk.error is None and walk.matching_hashes >= checkpoint.size:
        return CheckpointDifference(
            first,
            last,
            f"The checkpoint of {checkpoint.size} events doesn't match, but the ledger agrees with {hashes.path}: "
            "that checkpoint "
            f"was changed, or else both of these, first at one of the positions from {first} to {last}.",
        )
    if walk.error is not None:
        first, last = min(first, walk.error.position), min(last, walk.error.position)
    return CheckpointDifference(
        first,
        last,
        f"The first changed event is at one of the positions from {first} to {last}, unless the checkpoint of "
        f"{checkpoint.size} events was changed itself. {hashes.path}, by which to tell, is missing or doesn't match "
        f"that checkpoint either.",
    )


def _match_checkpoint(hashes: LeafHashFile, matched: Tree, checkpoint: Checkpoint) -> bool:
    tree = matched.copy()
    for page in hashes.pages(matched.size, checkpoint.size):
        tree.extend(page)
    return tree.size == checkpoint.size and tree.root() == checkpoint.root
