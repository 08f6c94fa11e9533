"""Cosignatures of witnesses, by https://c2sp.org/tlog-cosignature: `cosignature/v1` with Ed25519.

A witness signs a checkpoint after it has verified that it only adds events to the one that it signed before. So an
operator with the ledger and its signing key can't show two histories.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

from ...domain.errors import InvalidSigningKey
from ...domain.timestamps import EPOCH
from .checkpoint import Note, Signature
from .signing_keys import NoteKey, read_key_text, verify_ed25519
from .weak_keys import is_weak_public_key

_TIME_BYTES, _SIGNATURE_BYTES = 8, 64
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness has cosigned a checkpoint: its name, and the time that it says."""

    name: str
    time: datetime


@dataclass(frozen=True, slots=True)
class WitnessKey(NoteKey):
    """The public key of a witness."""

    ALGORITHM: ClassVar[bytes] = b"\x04"  # cosignature/v1 with Ed25519

    @classmethod
    def load(cls, source: str | Path) -> "WitnessKey":
        """Return the key in a line of text or in a file. Raises InvalidSigningKey."""
        key = cls.find_in(read_key_text(source))
        if key is None or is_weak_public_key(key.value):
            raise InvalidSigningKey(
                "The public key of a witness is a line like 'witness.example/w1+1a2b3c4d+BAfY…', for "
                "cosignature/v1 with Ed25519.",
                field="witness",
            )
        return key

    def cosignature(self, note: Note) -> Cosignature | None:
        """Return the cosignature of this witness below a checkpoint, or None. Raises ValueError if it is not valid."""
        own = [signature for signature in note.signatures if self.matches(signature)]
        return max((self._verified(signature, note.text) for signature in own), key=lambda one: one.time, default=None)

    def _verified(self, signature: Signature, text: str) -> Cosignature:
        seconds = int.from_bytes(signature.value[:_TIME_BYTES], "big")
        message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
        if (
            len(signature.value) != _TIME_BYTES + _SIGNATURE_BYTES
            or seconds > _LAST_SECOND
            or not verify_ed25519(self.value, signature.value[_TIME_BYTES:], message)
        ):
            raise ValueError(f"the cosignature of {self.name} is not valid")
        return Cosignature(self.name, EPOCH + timedelta(seconds=seconds))
