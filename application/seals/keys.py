"""Keys: the private one in a PEM file, the public one on a line as https://c2sp.org/signed-note writes it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...domain.errors import InvalidKey
from ...domain.texts import shown
from .checkpoint import ORIGIN
from .note import KEY_HASH_BYTES, Note, Signature, from_base64, to_base64

if TYPE_CHECKING:
    from . import ed25519

_ALGORITHM = b"\x01"  # Ed25519
_PUBLIC_BYTES = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What signatures are checked by. As text: the signer's name, a hash, and the key."""

    name: str
    value: bytes

    @property
    def key_hash(self) -> bytes:
        """What signatures by this key begin with."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ALGORITHM + self.value).digest()[:KEY_HASH_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{to_base64(_ALGORITHM + self.value)}"

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """The key that reads so. Raises InvalidKey."""
        name, _, rest = text.partition("+")
        try:
            value = from_base64(rest.partition("+")[2])
        except ValueError:
            value = b""
        key = cls(name, value[1:])
        if ORIGIN.fullmatch(name) is None or len(value) != 1 + _PUBLIC_BYTES or str(key) != text:
            raise InvalidKey(
                "A public key is a line like 'tallybook+1a2b3c4d+AfY…', as 'tallybook seal-key' prints it.", field="key"
            )
        return key

    @classmethod
    def read(cls, given: str | Path) -> "PublicKey":
        """A key given as its line, or as a file that holds it. Raises InvalidKey."""
        if not isinstance(cast(object, given), str | Path):
            raise InvalidKey(
                f"A public key is a line of text, or its file, not {shown(given)}.", field="key", value=given
            )
        path = Path(given)
        try:
            text = path.read_text() if path.is_file() else str(given)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidKey(f"The key in {path} can't be read.", field="key", value=path) from error
        return cls.parse(text.strip())

    def is_of(self, signature: Signature) -> bool:
        """Whether a signature says that it is by this key; not whether it is right."""
        return (signature.name, signature.key_hash) == (self.name, self.key_hash)

    def has_signed(self, note: Note) -> bool:
        """Whether the note has a signature by this key, and none that is wrong."""
        ours = [one.value for one in note.signatures if self.is_of(one)]
        is_signed = _ed25519().is_signed
        return bool(ours) and all(is_signed(self.value, one, note.text.encode()) for one in ours)


class PrivateKey:
    """What signs in the name of a ledger."""

    def __init__(self, name: str, key: "ed25519.Ed25519PrivateKey") -> None:
        self._key = key
        self.public = PublicKey(name, key.public_key().public_bytes_raw())

    def sign(self, text: str) -> Note:
        """The text as a note with one signature."""
        signature = Signature(self.public.name, self.public.key_hash, self._key.sign(text.encode()))
        return Note(text, (signature,))

    @classmethod
    def read(cls, path: Path, name: str) -> "PrivateKey":
        """The key in a PEM file, as this class or `openssl genpkey -algorithm ed25519` writes it. Raises InvalidKey."""
        from_pem = _ed25519().from_pem
        try:
            return cls(name, from_pem(path.read_bytes()))
        except OSError as error:
            raise InvalidKey(f"The key in {path} can't be read: {error.strerror}.", field="key", value=path) from error
        except (ValueError, TypeError) as error:
            raise InvalidKey(
                f"{path} is no Ed25519 private key in PEM without a password.", field="key", value=path
            ) from error

    @classmethod
    def make(cls, path: Path, name: str) -> "PrivateKey":
        """A new key, in a new file that only its owner can read. Raises InvalidKey."""
        ed25519 = _ed25519()
        key = ed25519.Ed25519PrivateKey.generate()
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(ed25519.to_pem(key))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InvalidKey(f"{path} can't be written: {error.strerror}.", field="key", value=path) from error
        return cls(name, key)


def _ed25519():  # gives a module, whose type pyright knows better than can be said here
    try:
        from . import ed25519  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidKey("Signatures need an extra: pip install 'tallybook[seal]'.", field="key") from None
    return ed25519
