"""Cosignatures of witnesses, by https://c2sp.org/tlog-cosignature."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tallybook.application import Cosignature, InvalidCheckpointFile, InvalidSigningKey, Metering
from tallybook.application.checkpoints.checkpoint import Note, Signature
from tallybook.application.checkpoints.witness import WitnessKey

SECONDS = 1_793_000_000
NAME = "witness.example/w1"


class Witness:
    """A witness with a key of its own."""

    def __init__(self, seed: int = 7) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = WitnessKey(NAME, self._key.public_key().public_bytes_raw())

    def cosign(self, file: Path, *, message: str = "cosignature/v1\ntime {}\n{}", said: int = SECONDS) -> None:
        """Add a cosignature to the last checkpoint of a file, as the specification says."""
        head, separator, last = file.read_text().removesuffix("\n").rpartition("\n\ntallybook\n")
        note = Note.parse(f"tallybook\n{last}" if separator else last)
        signature = self._key.sign(message.format(SECONDS, note.text).encode())
        cosignature = Signature(NAME, self.public.key_hash, said.to_bytes(8, "big") + signature)
        cosigned = Note(note.text, (*note.signatures, cosignature))
        file.write_text(f"{head}\n\n{cosigned}\n" if separator else f"{cosigned}\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a checkpoint file with two checkpoints."""
    with Metering.open(f"sqlite:///{tmp_path}/usage.db") as metering:
        metering.checkpoints.create(tmp_path / "usage.checkpoints")
        metering.meters.configure("tokens")
        metering.checkpoints.create(tmp_path / "usage.checkpoints")
    return tmp_path / "usage.checkpoints"


def verify(file: Path, *witnesses: WitnessKey) -> tuple[Cosignature, ...]:
    """Return the cosignatures of the last checkpoint."""
    with Metering.open(f"sqlite:///{file.parent}/usage.db") as metering:
        verification = metering.checkpoints.verify(file, witnesses=[str(witness) for witness in witnesses])
    return verification.checkpoints[-1].cosigned_by


def test_a_cosignature_is_verified_and_required(file: Path) -> None:
    """With the time that the witness says. Without the option it is a signature that nobody verified."""
    with pytest.raises(InvalidCheckpointFile, match="not cosigned by witness"):
        verify(file, Witness().public)
    Witness().cosign(file)
    assert verify(file) == ()
    assert verify(file, Witness().public) == (Cosignature(NAME, datetime.fromtimestamp(SECONDS, UTC)),)
    with pytest.raises(InvalidCheckpointFile, match="not cosigned by witness"):
        verify(file, Witness().public, Witness(seed=8).public)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("time {}\n{}", SECONDS),
        ("cosignature/v1\ntime {}\n{}\n", SECONDS),
        ("cosignature/v1\ntime {}\n{}", SECONDS + 1),
        ("cosignature/v1\ntime {}\n{}", 2**63),
    ],
)
def test_an_invalid_cosignature_is_rejected(file: Path, message: str, said: int) -> None:
    """If anything of it differs from what was signed."""
    Witness().cosign(file, message=message, said=said)
    with pytest.raises(InvalidCheckpointFile, match="is not valid"):
        verify(file, Witness().public)


def test_a_key_of_another_kind_is_rejected(file: Path) -> None:
    """The key of a signer is none of a witness."""
    text = str(Witness().public)
    assert WitnessKey.load(text) == Witness().public
    for wrong in (text[:-1], text.replace("+B", "+A"), text.replace("w1", "w2"), "", "a+b+c"):
        with pytest.raises(InvalidSigningKey):
            WitnessKey.load(wrong)
