"""Proofs, checked with nothing but themselves and what an auditor holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import EventProof, TallybookError, check_growth, check_proof
from tallybook.application.seals.checkpoint import Checkpoint
from tallybook.application.seals.keys import PrivateKey
from tallybook.application.seals.leaf import leaf_data
from tallybook.application.seals.leaf_hashes import LeafHashes
from tallybook.application.seals.merkle import inclusion_proof, leaf_hash
from tallybook.application.seals.seal_file import Seal

from .ledgers import NOW, Sealed


def code_of(call: Callable[[], object]) -> tuple[str, str | None]:
    with pytest.raises(TallybookError) as refused:
        call()
    return refused.value.code, refused.value.field


def proofs(sealed: Sealed, identifier: str) -> tuple[EventProof, ...]:
    with sealed.metering() as metering:
        return metering.prove(identifier, sealed.seals)


@pytest.mark.parametrize("position", range(2, 21))
def test_every_sealed_event_can_be_proved(sealed: Sealed, position: int) -> None:
    """With the proof, the event and the seals alone: the ledger is gone. It tells the event as it is stored."""
    (proof,) = proofs(sealed, f"req-{position}")
    event, document = proof.event, str(proof)
    sealed.ledger.unlink()
    proved = check_proof(event, document, seals=sealed.seals)
    assert (proved.position, proved.originator_id, proved.topic) == (position, f"event/req-{position}", "UsageRecorded")
    assert f'"tokens":"{position}"' in proved.state
    assert proved.seal.size == 20


def test_the_event_is_its_row_in_two_lines(sealed: Sealed) -> None:
    """What is hashed can be read, and made from the row with any JSON."""
    (proof,) = proofs(sealed, "req-7")
    heading, state = proof.event.split(b"\n", 1)
    assert heading == b'[7,"event/req-7",1,"UsageRecorded"]'
    assert state.startswith(b'{"recorded_at":"2026-11-22T10:00:00Z","event_name":"tokens"')


def test_one_checkpoint_is_enough_to_hold(sealed: Sealed, tmp_path: Path) -> None:
    """As it stands in the proof, in a file by itself."""
    (proof,) = proofs(sealed, "req-7")
    held = tmp_path / "checkpoint"
    held.write_text(str(proof.seal.note))
    assert check_proof(proof.event, str(proof), seals=held).position == 7


def test_a_cancel_is_proved_with_its_event(sealed: Sealed) -> None:
    """Both are stored events; none is left out, and none proved before it is sealed."""
    with sealed.metering() as metering:
        metering.cancel("tokens", "req-7", reason="a test")
    assert code_of(lambda: proofs(sealed, "req-7")) == ("not_sealed", "identifier")
    sealed.seal()
    both = [check_proof(one.event, str(one), seals=sealed.seals) for one in proofs(sealed, "req-7")]
    assert [(one.position, one.topic, one.originator_version) for one in both] == [
        (7, "UsageRecorded", 1),
        (26, "EventCancelled", 2),
    ]


def test_what_can_not_be_proved_is_refused(sealed: Sealed) -> None:
    """An unknown event, one not sealed yet, one that was changed, and any without the leaf hashes."""
    assert code_of(lambda: proofs(sealed, "unknown")) == ("invalid_identifier", "identifier")
    assert code_of(lambda: proofs(sealed, "")) == ("parameter_invalid", "identifier")
    assert code_of(lambda: proofs(sealed, "req-21")) == ("not_sealed", "identifier")
    sealed.tamper("UPDATE stored_events SET topic = 'Other' WHERE position = 7")
    assert code_of(lambda: proofs(sealed, "req-7")) == ("ledger_differs_from_seals", "position")
    assert len(proofs(sealed, "req-8")) == 1
    sealed.leaves.unlink()
    assert code_of(lambda: proofs(sealed, "req-8")) == ("invalid_seal_file", "file")


def test_any_changed_byte_of_an_event_or_its_proof_is_refused(sealed: Sealed) -> None:
    """Each byte of both, one after the other."""
    (proof,) = proofs(sealed, "req-7")
    event, document = proof.event, str(proof).encode()
    for at in range(len(event)):
        altered = event[:at] + bytes([event[at] ^ 1]) + event[at + 1 :]
        assert code_of(lambda altered=altered: check_proof(altered, str(proof), seals=sealed.seals)) == (
            "invalid_proof",
            "event",
        )
    for at in range(len(document)):
        altered = (document[:at] + bytes([document[at] ^ 1]) + document[at + 1 :]).decode(errors="replace")
        code, _ = code_of(lambda altered=altered: check_proof(event, altered, seals=sealed.seals))
        assert code == "invalid_proof"


@pytest.mark.parametrize("event", [b"", b"\n", b"{}", b'[7,"event/req-7",1,"UsageRecorded"]'])
def test_another_event_is_refused(sealed: Sealed, event: bytes) -> None:
    """Also one that is no event at all."""
    (proof,) = proofs(sealed, "req-7")
    assert code_of(lambda: check_proof(event, str(proof), seals=sealed.seals)) == ("invalid_proof", "event")


def test_what_is_neither_event_nor_proof_is_refused(sealed: Sealed) -> None:
    """Text for bytes, bytes for text, and a proof that wasn't written down yet."""
    (proof,) = proofs(sealed, "req-7")
    with sealed.metering() as metering:
        growth: Any = metering.prove_growth(sealed.seals, 10)
    document, event = str(proof), proof.event
    wrong: list[tuple[Any, Any, str]] = [
        (event.decode(), document, "event"), (None, document, "event"), (event, proof, "proof"),
        (event, document.encode(), "proof"), (event, None, "proof"),
    ]  # fmt: skip
    for one, other, field in wrong:
        assert code_of(lambda: check_proof(one, other, seals=sealed.seals)) == ("invalid_proof", field)  # noqa: B023
    assert code_of(lambda: check_growth(growth, seals=sealed.seals)) == ("invalid_proof", "proof")
    none: Any = 3
    assert code_of(lambda: check_proof(event, document, seals=none)) == ("parameter_invalid", "seals")
    assert code_of(lambda: check_growth(str(growth), seals=none)) == ("parameter_invalid", "seals")
    assert code_of(lambda: check_proof(event, document, key=none)) == ("invalid_key", "key")


def test_a_proof_shows_nothing_by_itself(sealed: Sealed, tmp_path: Path) -> None:
    """A whole ledger could be made up, with its proofs: the seal has to be one that is held, or signed."""
    (proof,) = proofs(sealed, "req-7")
    assert code_of(lambda: check_proof(proof.event, str(proof))) == ("parameter_invalid", "seals")
    (tmp_path / "made-up").mkdir()
    other = Sealed(tmp_path / "made-up")
    other.record(2, 7)
    other.seal()
    assert code_of(lambda: check_proof(proof.event, str(proof), seals=other.seals)) == ("invalid_proof", "seals")
    public = PrivateKey.make(tmp_path / "seal.pem", "tallybook").public
    assert code_of(lambda: check_proof(proof.event, str(proof), key=str(public))) == ("invalid_proof", "key")
    signed = sealed.seals.with_name("signed")
    with sealed.metering() as metering:
        metering.seal(signed, key=tmp_path / "seal.pem")
        (proof,) = metering.prove("req-7", signed)
    assert check_proof(proof.event, str(proof), key=str(public)).seal.signed_by == ("tallybook",)
    assert check_proof(proof.event, str(proof), key=str(public), seals=signed).position == 7


def test_any_two_seals_are_shown_to_be_consistent(sealed: Sealed) -> None:
    """The earlier one is held, or both are signed; the leaf hashes are enough to make the proof."""
    sealed.seal()
    with sealed.metering() as metering:
        for earlier, later in ((10, 10), (10, 20), (10, 25), (20, 25), (25, 25), (10, None)):
            proof = str(metering.prove_growth(sealed.seals, earlier, later))
            proved = check_growth(proof, seals=sealed.seals)
            assert (proved.earlier.size, proved.later.size) == (earlier, later or 25)
        assert code_of(lambda: metering.prove_growth(sealed.seals, 11)) == ("not_sealed", "earlier")
        assert code_of(lambda: metering.prove_growth(sealed.seals, 10, 21)) == ("not_sealed", "later")
        assert code_of(lambda: metering.prove_growth(sealed.seals, 20, 10)) == ("parameter_invalid", "earlier")


@pytest.mark.parametrize("is_signed", [False, True])
def test_an_altered_proof_of_consistency_is_refused(sealed: Sealed, tmp_path: Path, is_signed: bool) -> None:
    """Any byte of it, and any cut. Only what a later seal says of itself needs its signature."""
    key = tmp_path / "seal.pem"
    public = str(PrivateKey.make(key, "tallybook").public)
    seals = sealed.seals.with_name("more.seals")
    with sealed.metering() as metering:
        metering.seal(seals, key=key if is_signed else None)
        sealed.record(26, 30)
        metering.seal(seals, key=key if is_signed else None)
        proof = str(metering.prove_growth(seals, 25))
    trusted: dict[str, Any] = {"key": public} if is_signed else {"seals": seals}
    assert check_growth(proof, **trusted).earlier.size == 25
    data = proof.encode()
    for at in range(len(data)):
        altered = (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).decode(errors="replace")
        if is_signed or altered.split("\n\n")[:-2] != proof.split("\n\n")[:-2]:
            assert code_of(lambda altered=altered: check_growth(altered, **trusted))[0] == "invalid_proof"
        cut = data[:at].decode(errors="ignore")
        assert code_of(lambda cut=cut: check_growth(cut, **trusted))[0] == "invalid_proof"


def test_a_proof_of_consistency_shows_nothing_by_itself(sealed: Sealed, tmp_path: Path) -> None:
    """The earlier seal has to be held, or both be signed."""
    with sealed.metering() as metering:
        proof = str(metering.prove_growth(sealed.seals, 10))
    assert code_of(lambda: check_growth(proof)) == ("parameter_invalid", "seals")
    public = PrivateKey.make(tmp_path / "seal.pem", "tallybook").public
    assert code_of(lambda: check_growth(proof, key=str(public))) == ("invalid_proof", "key")
    assert code_of(lambda: check_growth(proof, key=str(public), seals=sealed.seals)) == ("invalid_proof", "key")


def test_a_proof_among_a_million_events_has_about_a_kilobyte(tmp_path: Path) -> None:
    """20 hashes and the signed seal; an event is about 200 bytes more."""
    size = 1_000_000
    file = tmp_path / "big.leaves"
    file.write_bytes(b"".join(n.to_bytes(32, "big") for n in range(size)))
    hashes = LeafHashes(file)
    event = b'[654321,"event/req-654321",1,"UsageRecorded"]\n{}'
    with file.open("r+b") as opened:
        opened.seek(654_320 * 32)
        opened.write(leaf_hash(event))
    key = PrivateKey.make(tmp_path / "seal.pem", "tallybook")
    seal = Seal.parse(str(key.sign(str(Checkpoint("tallybook", size, hashes.root_of(0, size), NOW)))))
    proof = EventProof(654_321, event, tuple(inclusion_proof(654_320, size, hashes.root_of)), seal)
    assert len(proof.hashes) == 20
    assert len(str(proof).encode()) < 1_200
    assert check_proof(event, str(proof), key=str(key.public)).position == 654_321


Cell = st.binary(max_size=6)
Rows = st.tuples(
    st.integers(-3, 3), Cell, st.sampled_from([b"1", b"2", b"x"]), Cell, Cell,
    st.sampled_from(["text integer text blob", "blob integer text blob", "text text text text"]),
)  # fmt: skip


@given(Rows, Rows)
def test_no_two_rows_have_the_same_leaf(
    one: tuple[int, bytes, bytes, bytes, bytes, str], other: tuple[int, bytes, bytes, bytes, bytes, str]
) -> None:
    """Whatever bytes and types somebody puts into a row."""

    def possible(row: tuple[int, bytes, bytes, bytes, bytes, str]) -> bool:
        return row[5] != "text integer text blob" or row[2].isdigit()

    if possible(one) and possible(other):
        assert (leaf_data(one) == leaf_data(other)) == (one == other)
