"""Proofs from a ledger and its checkpoints. Making one hashes all leaf hashes once, about a second for each million."""

from ...domain.errors import (
    CheckpointMismatch,
    InvalidCheckpointFile,
    InvalidIdentifier,
    InvalidParameter,
    NotCheckpointed,
)
from ..ledger.ledger import Ledger
from ..validation import require_int
from .checkpoint_file import SignedCheckpoint, SignedCheckpoints
from .leaves import LeafHashFile, stored_leaf_data
from .merkle import consistency_proof, inclusion_proof
from .proofs import ConsistencyProof, InclusionProof

MAX_SIZE = 2**63 - 1


def prove_inclusion(ledger: Ledger, identifier: str, checkpoints: SignedCheckpoints) -> tuple[InclusionProof, ...]:
    """A proof for each stored event of a meter event, by the last checkpoint."""
    positions = ledger.stream_positions(identifier)
    if not positions:
        raise InvalidIdentifier(f"No event is recorded under {identifier!r}.", field="identifier", value=identifier)
    size = checkpoints.all[-1].checkpoint.size
    if positions[-1] > size:
        raise NotCheckpointed(
            f"Position {positions[-1]} of {identifier!r} is after the last checkpoint, which has {size} events; "
            f"'tallybook checkpoint create' creates another one.",
            field="identifier",
            value=identifier,
        )
    return tuple(_prove(ledger, position, checkpoints) for position in positions)


def prove_consistency(checkpoints: SignedCheckpoints, earlier: int, later: int | None) -> ConsistencyProof:
    """Return a proof that the checkpoint of `later` events, or the last, extends the one of `earlier` events."""
    new = _checkpoint_with_size(checkpoints, checkpoints.all[-1].checkpoint.size if later is None else later, "later")
    old = _checkpoint_with_size(checkpoints, earlier, "earlier")
    sizes = old.checkpoint.size, new.checkpoint.size
    if sizes[0] > sizes[1]:
        raise InvalidParameter(f"{sizes[0]} events are more than {sizes[1]}.", field="earlier", value=earlier)
    hashes = LeafHashFile.for_checkpoints(checkpoints.path)
    proof = ConsistencyProof(tuple(consistency_proof(*sizes, hashes.subtree_root)), old, new)
    if not proof.is_valid():
        raise InvalidCheckpointFile(
            f"{hashes.path}, or one of the checkpoints, was changed; 'tallybook verify --checkpoints' shows which.",
            field="file",
            value=hashes.path,
        )
    return proof


def _prove(ledger: Ledger, position: int, checkpoints: SignedCheckpoints) -> InclusionProof:
    signed_checkpoint, hashes = checkpoints.all[-1], LeafHashFile.for_checkpoints(checkpoints.path)
    path = inclusion_proof(position - 1, signed_checkpoint.checkpoint.size, hashes.subtree_root)
    proof = InclusionProof(position, stored_leaf_data(ledger, position) or b"", tuple(path), signed_checkpoint)
    if not proof.is_valid():
        raise CheckpointMismatch(
            f"The event at position {position} can't be proved: it, or {hashes.path}, is not as it was checkpointed; "
            f"'tallybook verify --checkpoints' shows which.",
            field="position",
            value=position,
        )
    return proof


def _checkpoint_with_size(checkpoints: SignedCheckpoints, size: int, field: str) -> SignedCheckpoint:
    signed_checkpoint = checkpoints.with_size(require_int(size, field, 0, MAX_SIZE))
    if signed_checkpoint is None:
        sizes = ", ".join(str(recent.checkpoint.size) for recent in checkpoints.all[-10:])
        raise NotCheckpointed(f"No checkpoint has {size} events; the last ones have {sizes}.", field=field, value=size)
    return signed_checkpoint
