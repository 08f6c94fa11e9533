"""Proofs by the checkpoints that a ledger stores itself. They take as long for a large ledger as for a small one."""

from ...domain.errors import CheckpointMismatch, MeterEventNotFound, NotCheckpointed
from ..ledger.ledger import Ledger
from .checkpoint_file import SignedCheckpoint
from .leaves import UnexpectedPosition, stored_leaf_data
from .merkle import inclusion_proof
from .proofs import InclusionProof
from .publishing import StoredCheckpoints, mismatch
from .stored_tree import StoredTree


def prove_event(ledger: Ledger, identifier: str) -> tuple[InclusionProof, ...]:
    """Return a proof by the last stored checkpoint for each stored event of a meter event.

    Raises MeterEventNotFound, NotCheckpointed or CheckpointMismatch.
    """
    positions = ledger.stream_positions(identifier)
    if not positions:
        raise MeterEventNotFound(f"No event is recorded under {identifier!r}.", field="identifier", value=identifier)
    key_values = ledger.key_value_store()
    last = StoredCheckpoints(key_values).last()
    if last is None or last.checkpoint.size < positions[-1]:
        covered = "There is no checkpoint yet"
        if last is not None:
            covered = f"The last checkpoint has {last.checkpoint.size} events"
        raise NotCheckpointed(
            f"{covered}, and {identifier!r} has position {positions[-1]}: it is in the next one.",
            field="identifier",
            value=identifier,
        )
    tree = StoredTree(ledger, key_values)
    return tuple(_prove(ledger, tree, position, last) for position in positions)


def _prove(ledger: Ledger, tree: StoredTree, position: int, last: SignedCheckpoint) -> InclusionProof:
    event = stored_leaf_data(ledger, position)
    try:
        hashes = inclusion_proof(position - 1, last.checkpoint.size, tree.subtree_root)
    except UnexpectedPosition as error:
        raise mismatch(error) from error
    proof = None if event is None else InclusionProof(position, event, tuple(hashes), last)
    if proof is None or not proof.is_valid():
        raise CheckpointMismatch(
            f"The event at position {position} can't be proved: it, or another event, was changed since the checkpoint "
            f"of {last.checkpoint.size} events; 'tallybook verify --checkpoints' shows which.",
            field="position",
            value=position,
        )
    return proof
