"""Publish checkpoints: sign a checkpoint of what is new, store it in the ledger, and copy it to places outside."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from ...domain.errors import CheckpointInProgress, CheckpointMismatch, InvalidCheckpointFile, InvalidSigningKey
from ...domain.timestamps import ensure_utc, to_microseconds
from ..ledger.ledger import Ledger
from ..storage.key_value import KeyValueEntry, KeyValueStore
from .checkpoint import Checkpoint
from .checkpoint_file import SignedCheckpoint
from .comparison import ProgressCallback, exact_difference
from .destinations import CheckpointDestination, FileDestination
from .hash_worker import MIN_EVENTS, BlockHasher, WorkerProcess, low_priority_hasher
from .leaves import UnexpectedPosition, hash_pages
from .merkle import Tree
from .pruned_headings import check_headings, check_new_prunings, require_new_prunings
from .signing_keys import PrivateKey, PublicKey
from .stored_tree import StoredTree

KIND = "checkpoint"
_PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A checkpoint that was published, and how many events it has more than the one before."""

    signed_checkpoint: SignedCheckpoint
    new_events: int


@dataclass(frozen=True, slots=True)
class PublishedVerification:
    """The result of comparing a ledger with its stored checkpoints, which match: the last has `checkpointed_events`."""

    events: int
    checkpointed_events: int
    checkpoints: int


class StoredCheckpoints:
    """The checkpoints that a ledger stores itself, by their number of events."""

    def __init__(self, key_values: KeyValueStore) -> None:
        self._key_values = key_values

    def page(self, limit: int, before: int | None = None) -> list[SignedCheckpoint]:
        """Return up to `limit` checkpoints, the last one first, or those before one of `before` events."""
        after = None if before is None else _key(before)
        entries = self._key_values.scan(KIND, after=after, limit=limit, newest_first=True)
        return [_parse(entry) for entry in entries]

    def all(self) -> Iterator[SignedCheckpoint]:
        """Yield all checkpoints, in order."""
        after: str | None = None
        while entries := self._key_values.scan(KIND, after=after, limit=_PAGE_SIZE):
            yield from map(_parse, entries)
            after = entries[-1].key

    def last(self) -> SignedCheckpoint | None:
        """Return the last checkpoint."""
        return next(iter(self.page(1)), None)

    def add(self, signed: SignedCheckpoint) -> None:
        """Store a checkpoint. Raises EntryExists if there is one of as many events."""
        checkpoint = signed.checkpoint
        entry = KeyValueEntry(KIND, _key(checkpoint.size), to_microseconds(checkpoint.time), str(signed.note).encode())
        self._key_values.apply(insert=[entry])


class CheckpointPublisher:
    """Publishes the checkpoints of a ledger, signed with one key."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], datetime],
        key: PrivateKey,
        destinations: Sequence[CheckpointDestination],
        previous_keys: Sequence[PublicKey] = (),
        start_worker: Callable[[], WorkerProcess] | None = None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._key = key
        self._destinations = destinations
        self._accepted_keys = (key.public_key, *previous_keys)
        self._start_worker = start_worker

    def publish(self, progress: ProgressCallback) -> PublishedCheckpoint:
        """Create a checkpoint of all events, if there are new ones, and copy it to all destinations.

        The last checkpoint, in the ledger and at each destination, must match the ledger.
        """
        key_values = self._ledger.key_value_store()
        with key_values.try_lock("publishing a checkpoint") as is_locked:
            if not is_locked:
                raise CheckpointInProgress("Another process is creating a checkpoint now.")
            return self._publish(key_values, progress)

    def verify(self, progress: ProgressCallback) -> PublishedVerification:
        """Compare all events with all checkpoints in the ledger and the last one at each destination."""
        known = [*StoredCheckpoints(self._ledger.key_value_store()).all(), *self._copies()]
        for signed in known:
            self._require_own(signed)
        checkpoints = sorted((signed.checkpoint for signed in known), key=lambda checkpoint: checkpoint.size)
        head, tree = self._ledger.head(), Tree()
        try:
            for checkpoint in checkpoints:
                first = tree.size + 1
                for page in hash_pages(self._ledger, first, checkpoint.size):
                    tree.extend(page)
                    progress(tree.size, head)
                if tree.root() != checkpoint.root:
                    raise CheckpointMismatch(
                        f"An event at one of the positions from {min(first, checkpoint.size)} to {checkpoint.size} was "
                        "changed since its checkpoint.",
                        field="position",
                        value=first,
                    )
            changed = check_headings(self._ledger) or check_new_prunings(self._ledger, tree.size)
        except UnexpectedPosition as error:
            raise mismatch(error) from error
        if changed is not None:
            raise CheckpointMismatch(changed.message, field="position", value=changed.first_position)
        return PublishedVerification(events=head, checkpointed_events=tree.size, checkpoints=len(checkpoints))

    def _copies(self) -> Iterator[SignedCheckpoint]:
        """Yield the last checkpoint of each destination that has one."""
        for destination in self._destinations:
            signed = destination.last()
            if signed is not None:
                yield signed

    def _publish(self, key_values: KeyValueStore, progress: ProgressCallback) -> PublishedCheckpoint:
        stored = StoredCheckpoints(key_values)
        last_stored = stored.last()
        before = [*(() if last_stored is None else (last_stored,)), *self._copies()]
        for signed in before:
            self._require_own(signed)
        newest = max(before, key=lambda signed: signed.checkpoint.size, default=None)
        tree = StoredTree(self._ledger, key_values)
        with self._hasher(tree) as tree.hash_blocks:
            self._require_match(tree, [signed.checkpoint for signed in before], progress)
            head, size = self._ledger.head(), 0 if newest is None else newest.checkpoint.size
            if newest is None or head > size:
                require_new_prunings(self._ledger, size)
                newest = self._checkpoint(tree, head, progress)
        for destination in self._destinations:
            destination.add(newest)
        if last_stored is None or last_stored.checkpoint.size < newest.checkpoint.size:
            stored.add(newest)
        return PublishedCheckpoint(newest, newest.checkpoint.size - size)

    def _hasher(self, tree: StoredTree) -> AbstractContextManager[BlockHasher]:
        """Return what hashes the events for a tree: a worker, if there is one and much to hash."""
        many = self._ledger.head() - tree.size >= MIN_EVENTS
        if self._start_worker is None or not many or not self._ledger.store.is_persistent:
            return nullcontext(tree.hash_blocks)
        return low_priority_hasher(self._start_worker, self._ledger)

    def _checkpoint(self, tree: StoredTree, head: int, progress: ProgressCallback) -> SignedCheckpoint:
        start = tree.size
        try:
            leaves = tree.new_leaves(head, progress)
            file = next((place for place in self._destinations if isinstance(place, FileDestination)), None)
            if file is not None:
                file.store_leaves(start, leaves)
            for _ in leaves:  # those that no file took
                pass
            root = tree.root(head)
        except UnexpectedPosition as error:
            raise mismatch(error) from error
        timestamp = ensure_utc(self._clock(), "clock").replace(microsecond=0)
        checkpoint = Checkpoint(self._key.public_key.name, head, root, timestamp)
        return SignedCheckpoint(checkpoint, self._key.sign(str(checkpoint)))

    def _require_own(self, signed: SignedCheckpoint) -> None:
        """Raise InvalidSigningKey if a checkpoint isn't of this ledger and signed by this key or a previous one."""
        public_key, checkpoint = self._key.public_key, signed.checkpoint
        is_signed = any(key.has_signed(signed.note) for key in self._accepted_keys)
        if checkpoint.origin != public_key.name or not is_signed:
            raise InvalidSigningKey(
                f"The checkpoint of {checkpoint.size} events of {checkpoint.origin!r} isn't signed by {public_key}: it "
                "was changed, or it was created with another key or for another ledger. If it is an earlier key of "
                "yours, name it as a previous key.",
                field="key",
            )

    def _require_match(self, tree: StoredTree, checkpoints: Sequence[Checkpoint], progress: ProgressCallback) -> None:
        """Raise CheckpointMismatch if the ledger doesn't have the events of a checkpoint.

        If the stored roots don't lead to a checkpoint, they are computed again from all events.
        """
        largest = max((checkpoint.size for checkpoint in checkpoints), default=0)
        head = self._ledger.head()
        if head < largest:
            raise mismatch(UnexpectedPosition(head + 1, "missing"))
        try:
            tree.extend(largest, progress)
            if not _matches(tree, checkpoints):
                tree.forget()
                tree.extend(largest, progress)
                if not _matches(tree, checkpoints):
                    raise CheckpointMismatch(
                        f"The first {largest} events were changed since the last checkpoint; "
                        "'tallybook verify --checkpoints' shows which.",
                        field="position",
                    )
        except UnexpectedPosition as error:
            raise mismatch(error) from error


def _parse(entry: KeyValueEntry) -> SignedCheckpoint:
    """Return a stored checkpoint. Raises InvalidCheckpointFile."""
    try:
        return SignedCheckpoint.parse(entry.body.decode())
    except ValueError as error:
        raise InvalidCheckpointFile(
            f"The checkpoint of {int(entry.key)} events in the ledger is corrupted: {error}.", field="position"
        ) from error


def _matches(tree: StoredTree, checkpoints: Sequence[Checkpoint]) -> bool:
    roots = {checkpoint.size: checkpoint.root for checkpoint in checkpoints}
    if any(roots[checkpoint.size] != checkpoint.root for checkpoint in checkpoints):
        return False
    return all(tree.root(size) == root for size, root in roots.items())


def mismatch(error: UnexpectedPosition) -> CheckpointMismatch:
    """Return the error for an event that is missing, or that no ledger wrote."""
    difference = exact_difference(error.position, error.kind)
    return CheckpointMismatch(difference.message, field="position", value=difference.first_position)


def _key(size: int) -> str:
    return f"{size:019}"
