"""Several ledgers have one root: a tree over their checkpoints, with two inclusion proofs for each event."""

from datetime import UTC, datetime
from pathlib import Path

from tallybook.application import Metering, verify_inclusion
from tallybook.application.checkpoints.merkle import Tree, inclusion_proof, leaf_hash, root_from_inclusion

from ..notation import Clock

SHARDS = {"shard-0": "acme", "shard-1": "globex", "shard-2": "initech"}


def test_an_event_of_any_ledger_is_proved_by_the_root_over_their_checkpoints(tmp_path: Path) -> None:
    """The first proof leads from the event to the checkpoint of its ledger, the second one from there to the root."""
    notes: list[bytes] = []
    proofs: list[tuple[bytes, str]] = []
    for shard, customer in SHARDS.items():
        file = tmp_path / f"{shard}.checkpoints"
        with Metering.open("sqlite://", clock=Clock(datetime(2026, 1, 1, tzinfo=UTC))) as metering:
            metering.meters.configure("tokens", customer_key="customer")
            metering.record("tokens", {"customer": customer, "value": "1"}, identifier="same identifier")
            metering.checkpoints.create(file, name=f"usage/{shard}")
            (proof,) = metering.checkpoints.prove_inclusion("same identifier", file)
        notes.append(file.read_bytes())
        proofs.append((proof.event, str(proof)))
    leaves = [leaf_hash(note) for note in notes]

    def subtree_root(start: int, end: int) -> bytes:
        tree = Tree()
        tree.extend(leaves[start:end])
        return tree.root()

    root = subtree_root(0, len(leaves))
    for index, (note, (event, proof), customer) in enumerate(zip(notes, proofs, SHARDS.values(), strict=True)):
        hashes = inclusion_proof(index, len(leaves), subtree_root)
        assert root_from_inclusion(leaf_hash(note), index, len(leaves), hashes) == root
        assert root_from_inclusion(leaf_hash(note + b"\n"), index, len(leaves), hashes) != root
        (tmp_path / "note").write_bytes(note)
        verified = verify_inclusion(event, proof, checkpoints=tmp_path / "note")
        assert verified.checkpoint.origin == f"usage/shard-{index}"
        assert f'"customer":"{customer}"' in verified.state
