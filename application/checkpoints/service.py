"""Creates and verifies the checkpoints of a ledger, and proves what the ledger contains."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path

from ...domain.errors import CheckpointMismatch, InvalidCheckpointFile, InvalidParameter, InvalidSigningKey
from ...domain.plain_types import plain_text
from ...domain.text import abbreviated_repr
from ...domain.timestamps import ensure_utc
from ..ledger.ledger import Ledger
from ..validation import require_text
from .checkpoint import ORIGIN_PATTERN, Checkpoint, Note
from .checkpoint_file import CheckpointFile, SignedCheckpoint, SignedCheckpoints
from .comparison import Comparison, ProgressCallback, check_position_order, compare, exact_difference
from .keys import PrivateKey, PublicKey
from .leaves import LeafHashFile, UnexpectedPosition, hash_pages
from .merkle import Tree
from .paths import require_path
from .proofs import ConsistencyProof, InclusionProof
from .prove import prove_consistency, prove_inclusion
from .results import CheckpointVerification, CheckpointView

DEFAULT_NAME = "tallybook"


def _no_progress(_done: int, _total: int) -> None:
    pass


class CheckpointService:
    """Creates checkpoints of a ledger in a separate file: `metering.checkpoints`. It never decodes an event."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.clock = clock

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
        name, and whether all are signed. The checkpoint is durable when this returns. Raises CheckpointMismatch,
        InvalidCheckpointFile or InvalidSigningKey; then no checkpoint is created.
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
        self, file: str | Path, *, key: str | Path | None = None, progress: ProgressCallback = _no_progress
    ) -> CheckpointVerification:
        """Compare the ledger with its checkpoints, and return the first position that differs, if any.

        With `key`, a public key or its file, every checkpoint must be signed by it. Raises InvalidCheckpointFile or
        InvalidSigningKey.
        """
        checkpoints = CheckpointFile(require_path(file, "file")).read_nonempty()
        public_key = None if key is None else PublicKey.load(key)
        if public_key is not None:
            checkpoints.require_signatures(public_key)
        head, checkpointed_events = self.ledger.head(), checkpoints.all[-1].checkpoint.size
        comparison = self._compare(checkpoints, progress)
        matching_checkpoints = next(
            (count for count, matches in enumerate(comparison.matches) if not matches), len(checkpoints.all)
        )
        return CheckpointVerification(
            events=max(head, 0),
            checkpointed_events=checkpointed_events,
            checkpoints=tuple(
                CheckpointView.from_signed_checkpoint(signed_checkpoint, public_key)
                for signed_checkpoint in checkpoints.all
            ),
            matching_checkpoints=matching_checkpoints,
            difference=comparison.difference or check_position_order(self.ledger, checkpointed_events + 1, head),
            warnings=_warnings(checkpoints, comparison),
        )

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

    def _verified_tree(self, checkpoints: SignedCheckpoints, head: int, progress: ProgressCallback) -> Tree:
        """Return the tree of all events up to `head` and store their hashes. Raises CheckpointMismatch."""
        comparison = self._compare(checkpoints, progress)
        if comparison.difference is not None:
            raise CheckpointMismatch(
                comparison.difference.message, field="position", value=comparison.difference.first_position
            )
        tree = comparison.tree
        missing_pages = (
            hash_pages(self.ledger, comparison.matching_hashes + 1, tree.size)
            if comparison.matching_hashes < tree.size
            else iter(())
        )
        try:
            LeafHashFile.for_checkpoints(checkpoints.path).replace_from(
                comparison.matching_hashes, chain(missing_pages, self._extend_tree(tree, head, progress))
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


def _origin(checkpoints: SignedCheckpoints, name: object) -> str:
    text = plain_text(name)
    origin = checkpoints.all[0].checkpoint.origin if checkpoints.all else text or DEFAULT_NAME
    if ORIGIN_PATTERN.fullmatch(origin) is None or (name is not None and text != origin):
        raise InvalidParameter(
            f"A name is ASCII without spaces and '+', and the same in all checkpoints; "
            f"{abbreviated_repr(name)} is not valid here.",
            field="name",
            value=name,
        )
    return origin


def _require_same_signer(checkpoints: SignedCheckpoints, private_key: PrivateKey | None) -> None:
    if private_key is not None:
        checkpoints.require_signatures(private_key.public_key)
    elif any(signed_checkpoint.note.signatures for signed_checkpoint in checkpoints.all):
        raise InvalidSigningKey(
            f"The checkpoints in {checkpoints.path} are signed; use the key for this one too.", field="key"
        )


def _warnings(checkpoints: SignedCheckpoints, comparison: Comparison) -> tuple[str, ...]:
    warnings: list[str] = []
    if checkpoints.has_incomplete_tail:
        warnings.append(f"The last checkpoint in {checkpoints.path} is incomplete; the next one replaces it.")
    if comparison.difference is None and comparison.matching_hashes < comparison.tree.size:
        warnings.append(
            f"{LeafHashFile.for_checkpoints(checkpoints.path).path} is missing or changed; "
            "the next checkpoint writes it again."
        )
    return tuple(warnings)
