"""Creates and verifies the checkpoints of a ledger, and proves what the ledger contains."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path

from ...domain.errors import (
    ArchiveUnavailable,
    CheckpointMismatch,
    InvalidCheckpointFile,
    InvalidParameter,
    InvalidSigningKey,
)
from ...domain.plain_types import plain_text
from ...domain.text import abbreviated_repr
from ...domain.timestamps import ensure_utc
from ..ledger.ledger import Ledger
from ..validation import require_bool, require_int, require_text
from .checkpoint import ORIGIN_PATTERN, Checkpoint, Note
from .checkpoint_file import CheckpointFile, SignedCheckpoint, SignedCheckpoints
from .comparison import (
    CheckpointDifference,
    Comparison,
    ProgressCallback,
    check_position_order,
    compare,
    exact_difference,
)
from .destinations import resolve_destination
from .hash_worker import WorkerProcess
from .leaves import LeafHashFile, UnexpectedPosition, hash_pages
from .merkle import Tree
from .paths import require_path
from .proofs import ConsistencyProof, InclusionProof
from .prove import MAX_SIZE, prove_consistency, prove_inclusion
from .prove_event import prove_event
from .pruned_headings import check_headings, check_new_prunings, require_new_prunings
from .publishing import CheckpointPublisher, PublishedCheckpoint, PublishedVerification, StoredCheckpoints
from .results import CheckpointVerification, CheckpointView
from .signing_keys import PrivateKey, PublicKey
from .times import check_times
from .witness import WitnessKey

DEFAULT_NAME = "tallybook"


def _no_progress(_done: int, _total: int) -> None:
    pass


class CheckpointService:
    """Creates checkpoints of a ledger, in a separate file or in the ledger: `metering.checkpoints`.

    It never decodes an event.
    """

    def __init__(
        self, ledger: Ledger, clock: Callable[[], datetime], start_worker: Callable[[], WorkerProcess] | None = None
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self._start_worker = start_worker

    def create(
        self,
        file: str | Path,
        *,
        key: str | Path | None = None,
        name: str | None = None,
        progress: ProgressCallback = _no_progress,
    ) -> CheckpointView:
        """Append a checkpoint of all events to `file`, which is created if it does not exist, and return it.

        The ledger is compared with the earlier checkpoints first. `key` is the file of the private key to sign with.
        `name` is the name of the ledger in its checkpoints, "tallybook" by default. The first checkpoint determines the
        name, and whether all are signed. The checkpoint is durable when this returns. What was pruned since the last
        checkpoint is compared with its archive. Raises CheckpointMismatch, ArchiveUnavailable, InvalidCheckpointFile or
        InvalidSigningKey; then no checkpoint is created.
        """
        checkpoint_file = CheckpointFile(require_path(file, "file"))
        key_file = None if key is None else require_path(key, "key")
        with checkpoint_file.locked():
            checkpoints = checkpoint_file.read()
            origin = _origin(checkpoints, name)
            private_key = None if key_file is None else PrivateKey.load(key_file, origin)
            _require_same_signer(checkpoints, private_key)
            tree = self._verified_tree(checkpoints, self.ledger.head(), progress)
            timestamp = ensure_utc(self.clock(), "clock").replace(microsecond=0)
            checkpoint = str(Checkpoint(origin, tree.size, tree.root(), timestamp))
            note = Note(checkpoint) if private_key is None else private_key.sign(checkpoint)
            checkpoint_file.append(checkpoints, note)
        return CheckpointView.from_signed_checkpoint(
            SignedCheckpoint.parse(str(note)), None if private_key is None else private_key.public_key
        )

    def verify(
        self,
        file: str | Path,
        *,
        key: str | Path | None = None,
        witnesses: Sequence[str | Path] = (),
        progress: ProgressCallback = _no_progress,
    ) -> CheckpointVerification:
        """Compare the ledger with its checkpoints, and return the first position that differs, if any.

        With `key`, a public key or its file, every checkpoint must be signed by it. With `witnesses`, public keys of
        C2SP's cosignature/v1 or their files, the last checkpoint must be cosigned by each of them. What was pruned
        since the last checkpoint is compared with its archive; if that can't be read, a warning says so. Raises
        InvalidCheckpointFile or InvalidSigningKey.
        """
        witness_keys = [WitnessKey.load(witness) for witness in witnesses]
        checkpoints = CheckpointFile(require_path(file, "file")).read_nonempty()
        public_key = None if key is None else PublicKey.load(key)
        if public_key is not None:
            checkpoints.require_signatures(public_key)
        cosignatures = checkpoints.verify_cosignatures(witness_keys)
        head, checkpointed_events = self.ledger.head(), checkpoints.all[-1].checkpoint.size
        comparison = self._compare(checkpoints, progress)
        warnings = _warnings(checkpoints, comparison)
        matching_checkpoints = next(
            (count for count, matches in enumerate(comparison.matches) if not matches), len(checkpoints.all)
        )
        return CheckpointVerification(
            events=max(head, 0),
            checkpointed_events=checkpointed_events,
            checkpoints=tuple(
                CheckpointView.from_signed_checkpoint(signed_checkpoint, public_key, cosigned)
                for signed_checkpoint, cosigned in zip(checkpoints.all, cosignatures, strict=True)
            ),
            matching_checkpoints=matching_checkpoints,
            difference=comparison.difference
            or check_position_order(self.ledger, checkpointed_events + 1, head)
            or check_headings(self.ledger)
            or self._check_new_prunings(checkpointed_events, warnings)
            or check_times(self.ledger, [signed.checkpoint for signed in checkpoints.all], head),
            warnings=tuple(warnings),
        )

    def _check_new_prunings(self, checkpointed: int, warnings: "list[str]") -> CheckpointDifference | None:
        """Return where what was pruned since a checkpoint differs from its archive; warn if that can't be read."""
        try:
            return check_new_prunings(self.ledger, checkpointed)
        except ArchiveUnavailable as error:
            warnings.append(
                f"The history was pruned since the last checkpoint, and not compared with its archive: {error.message}"
            )
            return None

    def prove_inclusion(self, identifier: str, file: str | Path) -> tuple[InclusionProof, ...]:
        """Return a proof for each stored event of a meter event: its recording, and its cancellation if any.

        The proofs are against the last checkpoint in `file`. Raises InvalidIdentifier if no such event is recorded,
        NotCheckpointed if part of it was stored after that checkpoint, CheckpointMismatch if it was changed since, and
        InvalidCheckpointFile.
        """
        return prove_inclusion(
            self.ledger,
            require_text(identifier, "identifier", 100),
            CheckpointFile(require_path(file, "file")).read_nonempty(),
        )

    def prove_consistency(self, file: str | Path, earlier: int, later: int | None = None) -> ConsistencyProof:
        """Return a proof that the checkpoint of `later` events, or the last, extends that of `earlier` events.

        Raises NotCheckpointed if `file` has no such checkpoint, or InvalidCheckpointFile.
        """
        return prove_consistency(CheckpointFile(require_path(file, "file")).read_nonempty(), earlier, later)

    def publish(
        self,
        key: str | Path,
        destinations: Sequence[str | Path] = (),
        *,
        name: str | None = None,
        previous_keys: Sequence[str | Path] = (),
        low_priority: bool = False,
        progress: ProgressCallback = _no_progress,
    ) -> PublishedCheckpoint:
        """Create a signed checkpoint of all events, store it in the ledger, and copy it to each destination.

        Only events since the last checkpoint are read. `key` is the file of the private key. A destination is the path
        of a checkpoint file, a URL of an object store such as s3://bucket/prefix, in which each checkpoint is an object
        that is never replaced, or an HTTP URL, to which it is sent by POST. The last checkpoint, in the ledger and in
        each file and object store, must match the ledger and be signed by this key, or by one of `previous_keys`,
        public keys or their files. Without new events, the last checkpoint is returned, and copied where it is missing.
        With `low_priority`, many new events are hashed by another process with the lowest priority, so that threads of
        this process and others can record meanwhile.

        What was pruned since the last checkpoint is compared with its archive. Raises CheckpointMismatch,
        CheckpointInProgress, CheckpointDestinationUnavailable, ArchiveUnavailable, InvalidSigningKey,
        InvalidCheckpointFile or InvalidParameter.
        """
        start_worker = self._start_worker if require_bool(low_priority, "low_priority") else None
        return self._publisher(key, destinations, name, previous_keys, start_worker).publish(progress)

    def verify_published(
        self,
        key: str | Path,
        destinations: Sequence[str | Path] = (),
        *,
        name: str | None = None,
        previous_keys: Sequence[str | Path] = (),
        progress: ProgressCallback = _no_progress,
    ) -> PublishedVerification:
        """Compare all events with all checkpoints in the ledger, and with the last one at each destination.

        Raises CheckpointMismatch at the first difference, and as `publish` does.
        """
        return self._publisher(key, destinations, name, previous_keys).verify(progress)

    def prove(self, identifier: str) -> tuple[InclusionProof, ...]:
        """Return a proof for each stored event of a meter event, by the last checkpoint that the ledger stores.

        Raises MeterEventNotFound, NotCheckpointed if it was stored after that checkpoint, or CheckpointMismatch.
        """
        return prove_event(self.ledger, require_text(identifier, "identifier", 100))

    def _publisher(
        self,
        key: str | Path,
        destinations: Sequence[str | Path],
        name: str | None,
        previous_keys: Sequence[str | Path],
        start_worker: Callable[[], WorkerProcess] | None = None,
    ) -> CheckpointPublisher:
        private_key = PrivateKey.load(require_path(key, "key"), require_name(name or DEFAULT_NAME))
        places = [resolve_destination(place) for place in destinations]
        accepted = [PublicKey.load(previous) for previous in previous_keys]
        return CheckpointPublisher(self.ledger, self.clock, private_key, places, accepted, start_worker)

    def _verified_tree(self, checkpoints: SignedCheckpoints, head: int, progress: ProgressCallback) -> Tree:
        """Return the tree of all events up to `head` and store their hashes. Raises CheckpointMismatch."""
        comparison = self._compare(checkpoints, progress)
        if comparison.difference is not None:
            raise CheckpointMismatch(
                comparison.difference.message, field="position", value=comparison.difference.first_position
            )
        tree = comparison.tree
        require_new_prunings(self.ledger, tree.size)
        missing_pages = (
            hash_pages(self.ledger, comparison.matching_hashes + 1, tree.size)
            if comparison.matching_hashes < tree.size
            else iter(())
        )
        try:
            LeafHashFile.for_checkpoints(checkpoints.path).replace_from(
                comparison.matching_hashes,
                map(b"".join, chain(missing_pages, self._extend_tree(tree, head, progress))),
            )
        except UnexpectedPosition as error:
            difference = exact_difference(error.position, error.kind)
            raise CheckpointMismatch(difference.message, field="position", value=difference.first_position) from error
        return tree

    def _extend_tree(self, tree: Tree, head: int, progress: ProgressCallback) -> Iterator[list[bytes]]:
        for page in hash_pages(self.ledger, tree.size + 1, head):
            tree.extend(page)
            progress(tree.size, head)
            yield page

    def _compare(self, checkpoints: SignedCheckpoints, progress: ProgressCallback) -> Comparison:
        comparison = compare(
            self.ledger,
            [signed_checkpoint.checkpoint for signed_checkpoint in checkpoints.all],
            LeafHashFile.for_checkpoints(checkpoints.path),
            progress,
        )
        for count, (matches, next_matches) in enumerate(
            zip(comparison.matches, comparison.matches[1:], strict=False), 1
        ):
            if next_matches and not matches:
                raise InvalidCheckpointFile(
                    f"{checkpoints.path}: checkpoint {count} was changed: the ledger agrees with the one after it.",
                    field="file",
                    value=checkpoints.path,
                )
        return comparison

    def list(self, *, limit: int = 100, before: int | None = None) -> list[SignedCheckpoint]:
        """Return the checkpoints that the ledger stores, the last one first; those before one of `before` events."""
        limit = require_int(limit, "limit", 1, 10_000)
        before = None if before is None else require_int(before, "before", 0, MAX_SIZE)
        return StoredCheckpoints(self.ledger.key_value_store()).page(limit, before)


def _origin(checkpoints: SignedCheckpoints, name: object) -> str:
    text = plain_text(name)
    origin = checkpoints.all[0].checkpoint.origin if checkpoints.all else text or DEFAULT_NAME
    if name is not None and text != origin:
        raise _invalid_name(name)
    return require_name(origin)


def require_name(name: str) -> str:
    """Return the name of a ledger in its checkpoints. Raises InvalidParameter."""
    if plain_text(name) is None or ORIGIN_PATTERN.fullmatch(name) is None:
        raise _invalid_name(name)
    return name


def _invalid_name(name: object) -> InvalidParameter:
    return InvalidParameter(
        f"A name is ASCII without spaces and '+', and the same in all checkpoints; "
        f"{abbreviated_repr(name)} is not valid here.",
        field="name",
        value=name,
    )


def _require_same_signer(checkpoints: SignedCheckpoints, private_key: PrivateKey | None) -> None:
    if private_key is not None:
        checkpoints.require_signatures(private_key.public_key)
    elif any(signed_checkpoint.note.signatures for signed_checkpoint in checkpoints.all):
        raise InvalidSigningKey(
            f"The checkpoints in {checkpoints.path} are signed; use the key for this one too.", field="key"
        )


def _warnings(checkpoints: SignedCheckpoints, comparison: Comparison) -> list[str]:
    warnings: list[str] = []
    if checkpoints.has_incomplete_tail:
        warnings.append(f"The last checkpoint in {checkpoints.path} is incomplete; the next one replaces it.")
    if comparison.difference is None and comparison.matching_hashes < comparison.tree.size:
        warnings.append(
            f"{LeafHashFile.for_checkpoints(checkpoints.path).path} is missing or changed; "
            "the next checkpoint writes it again."
        )
    return warnings
