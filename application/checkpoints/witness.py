"""Cosignatures of witnesses, by https://c2sp.org/tlog-cosignature: `cosignature/v1` with Ed25519.

A witness signs a checkpoint after it has verified that it only adds events to the one that it signed before. So whoever
holds the ledger and its signing key can't show two histories.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ...domain.errors import InvalidSigningKey
from ...domain.timestamps import EPOCH
from .checkpoint import KEY_HASH_BYTES, ORIGIN_PATTERN, Note, Signature, from_base64, to_base64
from .keys import read_key_text, verify_ed25519
from .weak_keys import is_weak_public_key

_ALGORITHM = b"\x04"
_TIME_BYTES, _SIGNATURE_BYTES, _PUBLIC_BYTES = 8, 64, 32
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness has cosigned a checkpoint: its name, and the time that it says."""

    name: str
    time: datetime


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """The public key of a witness. As text: its name, a hash, and the key."""

    name: str
    value: bytes

    @property
    def key_hash(self) -> bytes:
        """The first bytes of every cosignature by this key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ALGORITHM + self.value).digest()[:KEY_HASH_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{to_base64(_ALGORITHM + self.value)}"

    @classmethod
    def load(cls, source: str | Path) -> "WitnessKey":
        """Return the key in a line of text or in a file. Raises InvalidSigningKey."""
        text = read_key_text(source)
        name, _, rest = text.partition("+")
        try:
            value = from_base64(rest.partition("+")[2])
        except ValueError:
            value = b""
        key = cls(name, value[1:])
        has_name = ORIGIN_PATTERN.fullmatch(name) is not None
        if not has_name or len(value) != 1 + _PUBLIC_BYTES or str(key) != text or is_weak_public_key(key.value):
            raise InvalidSigningKey(
                "The public key of a witness is a line like 'witness.example/w1+1a2b3c4d+BAfY…', for "
                "cosignature/v1 with Ed25519.",
                field="witness",
            )
        return key

    def cosignature(self, note: Note) -> Cosignature | None:
        """Return the cosignature of this witness below a checkpoint, or None. Raises ValueError if it is not valid."""
        own = [signature for signature in note.signatures if (signature.name, signature.key_hash) == self._identity]
        return max((self._verified(signature, note.text) for signature in own), key=lambda one: one.time, default=None)

    @property
    def _identity(self) -> tuple[str, bytes]:
        return self.name, self.key_hash

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
