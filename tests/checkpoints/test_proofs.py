"""Proofs can be verified without the ledger, with a checkpoint or public key that the auditor has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import InclusionProof, TallybookError, verify_consistency, verify_inclusion
from tallybook.application.checkpoints.checkpoint import Checkpoint
from tallybook.application.checkpoints.checkpoint_file import SignedCheckpoint
from tallybook.application.checkpoints.leaves import LeafHashFile, leaf_data
from tallybook.application.checkpoints.merkle import inclusion_proof, leaf_hash
from tallybook.application.checkpoints.signing_keys import PrivateKey

from .ledgers import NOW, CheckpointedLedger


def error_of(call: Callable[[], object]) -> tuple[str, str | None]:
    with pytest.raises(TallybookError) as exc_info:
        call()
    return exc_info.value.code, exc_info.value.field


def proofs(checkpointed_ledger: CheckpointedLedger, identifier: str) -> tuple[InclusionProof, ...]:
    with checkpointed_ledger.metering() as metering:
        return metering.checkpoints.prove_inclusion(identifier, checkpointed_ledger.checkpoints)


@pytest.mark.parametrize("position", range(2, 21))
def test_every_checkpointed_event_can_be_proved(checkpointed_ledger: CheckpointedLedger, position: int) -> None:
    """The ledger is deleted: proof, event and checkpoints are sufficient. The result is the stored event."""
    (proof,) = proofs(checkpointed_ledger, f"req-{position}")
    event, document = proof.event, str(proof)
    checkpointed_ledger.ledger.unlink()
    verified = verify_inclusion(event, document, checkpoints=checkpointed_ledger.checkpoints)
    assert (verified.position, verified.originator_id, verified.topic) == (
        position,
        f"event/req-{position}",
        "UsageRecorded",
    )
    assert f'"tokens":"{position}"' in verified.state
    assert verified.checkpoint.size == 20


def test_the_event_is_its_row_in_two_lines(checkpointed_ledger: CheckpointedLedger) -> None:
    """The hashed bytes are readable, and any JSON library can create them from the row."""
    (proof,) = proofs(checkpointed_ledger, "req-7")
    heading, state = proof.event.split(b"\n", 1)
    assert heading == b'[7,"event/req-7",1,"UsageRecorded"]'
    assert state.startswith(b'{"recorded_at":"2026-11-22T10:00:00Z","event_name":"tokens"')


def test_one_checkpoint_is_enough_to_verify(checkpointed_ledger: CheckpointedLedger, tmp_path: Path) -> None:
    """A file with only the checkpoint of the proof is sufficient."""
    (proof,) = proofs(checkpointed_ledger, "req-7")
    trusted = tmp_path / "checkpoint"
    trusted.write_text(str(proof.signed_checkpoint.note))
    assert verify_inclusion(proof.event, str(proof), checkpoints=trusted).position == 7


def test_a_cancellation_is_proved_with_its_event(checkpointed_ledger: CheckpointedLedger) -> None:
    """The result has a proof for both events. Without a checkpoint of the cancellation, there is none for either."""
    with checkpointed_ledger.metering() as metering:
        metering.cancel("tokens", "req-7", reason="a test")
    assert error_of(lambda: proofs(checkpointed_ledger, "req-7")) == ("not_checkpointed", "identifier")
    checkpointed_ledger.create_checkpoint()
    verified_events = [
        verify_inclusion(item.event, str(item), checkpoints=checkpointed_ledger.checkpoints)
        for item in proofs(checkpointed_ledger, "req-7")
    ]
    assert [(item.position, item.topic, item.originator_version) for item in verified_events] == [
        (7, "UsageRecorded", 1),
        (26, "EventCancelled", 2),
    ]


def test_an_unprovable_event_is_rejected(checkpointed_ledger: CheckpointedLedger) -> None:
    """Examples: an unknown event, one without a checkpoint, a changed one, and any event without leaf hashes."""
    assert error_of(lambda: proofs(checkpointed_ledger, "unknown")) == ("invalid_identifier", "identifier")
    assert error_of(lambda: proofs(checkpointed_ledger, "")) == ("parameter_invalid", "identifier")
    assert error_of(lambda: proofs(checkpointed_ledger, "req-21")) == ("not_checkpointed", "identifier")
    checkpointed_ledger.tamper("UPDATE stored_events SET topic = 'Other' WHERE position = 7")
    assert error_of(lambda: proofs(checkpointed_ledger, "req-7")) == ("checkpoint_mismatch", "position")
    assert len(proofs(checkpointed_ledger, "req-8")) == 1
    checkpointed_ledger.leaves.unlink()
    assert error_of(lambda: proofs(checkpointed_ledger, "req-8")) == ("invalid_checkpoint_file", "file")


def test_any_changed_byte_of_an_event_or_its_proof_is_rejected(checkpointed_ledger: CheckpointedLedger) -> None:
    """Each byte of both is changed in turn."""
    (proof,) = proofs(checkpointed_ledger, "req-7")
    event, document = proof.event, str(proof).encode()
    for at in range(len(event)):
        altered = event[:at] + bytes([event[at] ^ 1]) + event[at + 1 :]
        assert error_of(
            lambda altered=altered: verify_inclusion(altered, str(proof), checkpoints=checkpointed_ledger.checkpoints)
        ) == (
            "invalid_proof",
            "event",
        )
    for at in range(len(document)):
        altered = (document[:at] + bytes([document[at] ^ 1]) + document[at + 1 :]).decode(errors="replace")
        code, _ = error_of(
            lambda altered=altered: verify_inclusion(event, altered, checkpoints=checkpointed_ledger.checkpoints)
        )
        assert code == "invalid_proof"


@pytest.mark.parametrize("event", [b"", b"\n", b"{}", b'[7,"event/req-7",1,"UsageRecorded"]'])
def test_another_event_is_rejected(checkpointed_ledger: CheckpointedLedger, event: bytes) -> None:
    """The bytes are not the event of the proof, or no event at all."""
    (proof,) = proofs(checkpointed_ledger, "req-7")
    assert error_of(lambda: verify_inclusion(event, str(proof), checkpoints=checkpointed_ledger.checkpoints)) == (
        "invalid_proof",
        "event",
    )


def test_invalid_events_and_proofs_are_rejected(checkpointed_ledger: CheckpointedLedger) -> None:
    """Examples: text instead of bytes, bytes instead of text, and a proof object instead of its text."""
    (proof,) = proofs(checkpointed_ledger, "req-7")
    with checkpointed_ledger.metering() as metering:
        consistency_proof: Any = metering.checkpoints.prove_consistency(checkpointed_ledger.checkpoints, 10)
    document, event = str(proof), proof.event
    invalid_proofs: list[tuple[Any, Any, str]] = [
        (event.decode(), document, "event"), (None, document, "event"), (event, proof, "proof"),
        (event, document.encode(), "proof"), (event, None, "proof"),
    ]  # fmt: skip
    for event_argument, proof_argument, field in invalid_proofs:
        assert error_of(
            lambda event_argument=event_argument, proof_argument=proof_argument: verify_inclusion(
                event_argument, proof_argument, checkpoints=checkpointed_ledger.checkpoints
            )
        ) == ("invalid_proof", field)
    assert error_of(lambda: verify_consistency(consistency_proof, checkpoints=checkpointed_ledger.checkpoints)) == (
        "invalid_proof",
        "proof",
    )
    none: Any = 3
    assert error_of(lambda: verify_inclusion(event, document, checkpoints=none)) == ("parameter_invalid", "checkpoints")
    assert error_of(lambda: verify_consistency(str(consistency_proof), checkpoints=none)) == (
        "parameter_invalid",
        "checkpoints",
    )
    assert error_of(lambda: verify_inclusion(event, document, key=none)) == ("invalid_signing_key", "key")


def test_a_proof_needs_a_trusted_checkpoint(checkpointed_ledger: CheckpointedLedger, tmp_path: Path) -> None:
    """A forged ledger has valid proofs, so the checkpoint must be one that the auditor has, or a signed one."""
    (proof,) = proofs(checkpointed_ledger, "req-7")
    assert error_of(lambda: verify_inclusion(proof.event, str(proof))) == ("parameter_invalid", "checkpoints")
    (tmp_path / "made-up").mkdir()
    other = CheckpointedLedger(tmp_path / "made-up")
    other.record(2, 7)
    other.create_checkpoint()
    assert error_of(lambda: verify_inclusion(proof.event, str(proof), checkpoints=other.checkpoints)) == (
        "invalid_proof",
        "checkpoints",
    )
    public = PrivateKey.generate(tmp_path / "checkpoint.pem", "tallybook").public_key
    assert error_of(lambda: verify_inclusion(proof.event, str(proof), key=str(public))) == ("invalid_proof", "key")
    signed = checkpointed_ledger.checkpoints.with_name("signed")
    with checkpointed_ledger.metering() as metering:
        metering.checkpoints.create(signed, key=tmp_path / "checkpoint.pem")
        (proof,) = metering.checkpoints.prove_inclusion("req-7", signed)
    assert verify_inclusion(proof.event, str(proof), key=str(public)).checkpoint.signed_by == ("tallybook",)
    assert verify_inclusion(proof.event, str(proof), key=str(public), checkpoints=signed).position == 7


def test_any_two_checkpoints_are_proved_consistent(checkpointed_ledger: CheckpointedLedger) -> None:
    """The auditor has the earlier checkpoint. An unknown size, or a wrong order of sizes, is rejected."""
    checkpointed_ledger.create_checkpoint()
    with checkpointed_ledger.metering() as metering:
        for earlier, later in ((10, 10), (10, 20), (10, 25), (20, 25), (25, 25), (10, None)):
            proof = str(metering.checkpoints.prove_consistency(checkpointed_ledger.checkpoints, earlier, later))
            verified = verify_consistency(proof, checkpoints=checkpointed_ledger.checkpoints)
            assert (verified.earlier.size, verified.later.size) == (earlier, later or 25)
        assert error_of(lambda: metering.checkpoints.prove_consistency(checkpointed_ledger.checkpoints, 11)) == (
            "not_checkpointed",
            "earlier",
        )
        assert error_of(lambda: metering.checkpoints.prove_consistency(checkpointed_ledger.checkpoints, 10, 21)) == (
            "not_checkpointed",
            "later",
        )
        assert error_of(lambda: metering.checkpoints.prove_consistency(checkpointed_ledger.checkpoints, 20, 10)) == (
            "parameter_invalid",
            "earlier",
        )


@pytest.mark.parametrize("is_signed", [False, True])
def test_an_altered_consistency_proof_is_rejected(
    checkpointed_ledger: CheckpointedLedger, tmp_path: Path, is_signed: bool
) -> None:
    """Each byte is changed, and the text is cut at each byte. An unsigned later checkpoint may differ in its text."""
    key = tmp_path / "checkpoint.pem"
    public = str(PrivateKey.generate(key, "tallybook").public_key)
    checkpoints_file = checkpointed_ledger.checkpoints.with_name("more.checkpoints")
    with checkpointed_ledger.metering() as metering:
        metering.checkpoints.create(checkpoints_file, key=key if is_signed else None)
        checkpointed_ledger.record(26, 30)
        metering.checkpoints.create(checkpoints_file, key=key if is_signed else None)
        proof = str(metering.checkpoints.prove_consistency(checkpoints_file, 25))
    trusted: dict[str, Any] = {"key": public} if is_signed else {"checkpoints": checkpoints_file}
    assert verify_consistency(proof, **trusted).earlier.size == 25
    data = proof.encode()
    for at in range(len(data)):
        altered = (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).decode(errors="replace")
        if is_signed or altered.split("\n\n")[:-2] != proof.split("\n\n")[:-2]:
            assert error_of(lambda altered=altered: verify_consistency(altered, **trusted))[0] == "invalid_proof"
        cut = data[:at].decode(errors="ignore")
        assert error_of(lambda cut=cut: verify_consistency(cut, **trusted))[0] == "invalid_proof"


def test_a_consistency_proof_needs_a_trusted_checkpoint(
    checkpointed_ledger: CheckpointedLedger, tmp_path: Path
) -> None:
    """The auditor must have the earlier checkpoint, or both must be signed."""
    with checkpointed_ledger.metering() as metering:
        proof = str(metering.checkpoints.prove_consistency(checkpointed_ledger.checkpoints, 10))
    assert error_of(lambda: verify_consistency(proof)) == ("parameter_invalid", "checkpoints")
    public = PrivateKey.generate(tmp_path / "checkpoint.pem", "tallybook").public_key
    assert error_of(lambda: verify_consistency(proof, key=str(public))) == ("invalid_proof", "key")
    assert error_of(
        lambda: verify_consistency(proof, key=str(public), checkpoints=checkpointed_ledger.checkpoints)
    ) == ("invalid_proof", "key")


def test_a_proof_in_a_ledger_of_a_million_events_has_less_than_1200_bytes(tmp_path: Path) -> None:
    """The proof contains 20 hashes and the signed checkpoint."""
    size = 1_000_000
    file = tmp_path / "big.leaves"
    file.write_bytes(b"".join(n.to_bytes(32, "big") for n in range(size)))
    hashes = LeafHashFile(file)
    event = b'[654321,"event/req-654321",1,"UsageRecorded"]\n{}'
    with file.open("r+b") as opened:
        opened.seek(654_320 * 32)
        opened.write(leaf_hash(event))
    key = PrivateKey.generate(tmp_path / "checkpoint.pem", "tallybook")
    checkpoint = SignedCheckpoint.parse(
        str(key.sign(str(Checkpoint("tallybook", size, hashes.subtree_root(0, size), NOW))))
    )
    proof = InclusionProof(654_321, event, tuple(inclusion_proof(654_320, size, hashes.subtree_root)), checkpoint)
    assert len(proof.hashes) == 20
    assert len(str(proof).encode()) < 1_200
    assert verify_inclusion(event, str(proof), key=str(key.public_key)).position == 654_321


Cell = st.binary(max_size=6)
Rows = st.tuples(
    st.integers(-3, 3), Cell, st.sampled_from([b"1", b"2", b"x"]), Cell, Cell,
    st.sampled_from(["text integer text blob", "blob integer text blob", "text text text text"]),
)  # fmt: skip


@given(Rows, Rows)
def test_no_two_rows_have_the_same_leaf(
    first_row: tuple[int, bytes, bytes, bytes, bytes, str], second_row: tuple[int, bytes, bytes, bytes, bytes, str]
) -> None:
    """Rows that differ in any value or type have different leaves."""

    def possible(row: tuple[int, bytes, bytes, bytes, bytes, str]) -> bool:
        return row[5] != "text integer text blob" or row[2].isdigit()

    if possible(first_row) and possible(second_row):
        assert (leaf_data(first_row) == leaf_data(second_row)) == (first_row == second_row)
