"""Proofs from a ledger and its seals. Making one hashes all leaf hashes once, about a second for each million."""

from ...domain.errors import (
    InvalidIdentifier,
    InvalidParameter,
    InvalidSealFile,
    LedgerDiffersFromSeals,
    NotSealed,
)
from ..arguments import number
from ..ledger import Ledger
from .growth import GrowthProof
from .leaf import leaf_data
from .leaf_hashes import LeafHashes
from .merkle import consistency_proof, inclusion_proof
from .proof import EventProof
from .seal_file import Seal, Seals

_LARGEST = 2**63 - 1


def prove_events(ledger: Ledger, identifier: str, seals: Seals) -> tuple[EventProof, ...]:
    """A proof for each stored event of a meter event, by the last seal."""
    positions = ledger.stream_positions(identifier)
    if not positions:
        raise InvalidIdentifier(f"No event is recorded under {identifier!r}.", field="identifier", value=identifier)
    size = seals.all[-1].checkpoint.size
    if positions[-1] > size:
        raise NotSealed(
            f"Position {positions[-1]} of {identifier!r} is after the last seal, which is of {size} events; "
            f"'tallybook seal' makes another.",
            field="identifier",
            value=identifier,
        )
    return tuple(_prove(ledger, position, seals) for position in positions)


def prove_growth(seals: Seals, earlier: int, later: int | None) -> GrowthProof:
    """A proof that the seal of `later` events, or the last, only adds events to the seal of `earlier` events."""
    new = _of_size(seals, seals.all[-1].checkpoint.size if later is None else later, "later")
    old = _of_size(seals, earlier, "earlier")
    sizes = old.checkpoint.size, new.checkpoint.size
    if sizes[0] > sizes[1]:
        raise InvalidParameter(f"{sizes[0]} events are more than {sizes[1]}.", field="earlier", value=earlier)
    hashes = LeafHashes.beside(seals.path)
    proof = GrowthProof(tuple(consistency_proof(*sizes, hashes.root_of)), old, new)
    if not proof.holds():
        raise InvalidSealFile(
            f"{hashes.path}, or one of the seals, is not as it was; 'tallybook verify' tells which.",
            field="file",
            value=hashes.path,
        )
    return proof


def _prove(ledger: Ledger, position: int, seals: Seals) -> EventProof:
    last, hashes = seals.all[-1], LeafHashes.beside(seals.path)
    (row,) = ledger.stored_rows(position, position, 1)
    path = inclusion_proof(position - 1, last.checkpoint.size, hashes.root_of)
    proof = EventProof(position, leaf_data(row), tuple(path), last)
    if not proof.holds():
        raise LedgerDiffersFromSeals(
            f"The event at position {position} can't be proved: it, or {hashes.path}, is not as it was sealed; "
            f"'tallybook verify' tells which.",
            field="position",
            value=position,
        )
    return proof


def _of_size(seals: Seals, size: int, field: str) -> Seal:
    found = seals.of_size(number(size, field, 0, _LARGEST))
    if found is None:
        sizes = ", ".join(str(one.checkpoint.size) for one in seals.all[-10:])
        raise NotSealed(f"No seal is of {size} events; the last ones are of {sizes}.", field=field, value=size)
    return found
