"""Signing keys: a private key in a PEM file, a public key as one line by https://c2sp.org/signed-note."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

from ...domain.errors import InvalidSigningKey
from ...domain.text import abbreviated_repr
from ..storage.private_files import private_opener
from .checkpoint import KEY_HASH_BYTES, ORIGIN_PATTERN, Note, Signature, from_base64, to_base64
from .weak_keys import is_weak_public_key

if TYPE_CHECKING:
    from . import ed25519

_PUBLIC_BYTES = 32


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key for the signatures of one kind below a note. As text: its name, a hash, and the key."""

    ALGORITHM: ClassVar[bytes]
    """The byte of the kind, which the hash and the text of the key contain."""

    name: str
    value: bytes

    @property
    def key_hash(self) -> bytes:
        """The first bytes of every signature by this key."""
        return hashlib.sha256(self.name.encode() + b"\n" + self.ALGORITHM + self.value).digest()[:KEY_HASH_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{to_base64(self.ALGORITHM + self.value)}"

    @classmethod
    def find_in(cls, text: str) -> Self | None:
        """Return the key that a text is; None if it is none. The key may be weak."""
        name, _, rest = text.partition("+")
        try:
            value = from_base64(rest.partition("+")[2])
        except ValueError:
            return None
        key = cls(name, value[1:])
        is_whole = ORIGIN_PATTERN.fullmatch(name) is not None and len(value) == 1 + _PUBLIC_BYTES
        return key if is_whole and str(key) == text else None

    def matches(self, signature: Signature) -> bool:
        """Return whether a signature has the name and hash of this key. Does not verify the signature."""
        return (signature.name, signature.key_hash) == (self.name, self.key_hash)


@dataclass(frozen=True, slots=True)
class PublicKey(NoteKey):
    """A key that verifies the signatures of checkpoints."""

    ALGORITHM: ClassVar[bytes] = b"\x01"  # Ed25519

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Parse a public key. Raises InvalidSigningKey."""
        key = cls.find_in(text)
        if key is None:
            raise InvalidSigningKey(
                "A public key is a line like 'tallybook+1a2b3c4d+AfY…', as 'tallybook checkpoint key' prints it.",
                field="key",
            )
        if is_weak_public_key(key.value):
            raise InvalidSigningKey(
                "This public key proves nothing: anyone can sign for it, because it is a point of small order or has a "
                "second encoding. Use a key that 'tallybook checkpoint key' prints.",
                field="key",
            )
        return key

    @classmethod
    def load(cls, source: str | Path) -> "PublicKey":
        """Return the key in a line of text or in a file. Raises InvalidSigningKey."""
        return cls.parse(read_key_text(source))

    def has_signed(self, note: Note) -> bool:
        """Return whether the note has signatures by this key and all of them are valid; False for a weak key."""
        if is_weak_public_key(self.value):
            return False
        own_signatures = [signature.value for signature in note.signatures if self.matches(signature)]
        is_valid_signature = _import_ed25519().is_valid_signature
        return bool(own_signatures) and all(
            is_valid_signature(self.value, signature, note.text.encode()) for signature in own_signatures
        )


class PrivateKey:
    """A key that signs checkpoints with the name of a ledger."""

    def __init__(self, name: str, key: "ed25519.Ed25519PrivateKey") -> None:
        self._key = key
        self.public_key = PublicKey(name, key.public_key().public_bytes_raw())

    def sign(self, text: str) -> Note:
        """Return the text as a note with one signature."""
        signature = Signature(self.public_key.name, self.public_key.key_hash, self._key.sign(text.encode()))
        return Note(text, (signature,))

    @classmethod
    def load(cls, path: Path, name: str) -> "PrivateKey":
        """Return the key in a PEM file of this class or of `openssl genpkey -algorithm ed25519`.

        Raises InvalidSigningKey.
        """
        from_pem = _import_ed25519().from_pem
        try:
            return cls(name, from_pem(path.read_bytes()))
        except OSError as error:
            raise InvalidSigningKey(
                f"The key in {path} can't be read: {error.strerror}.", field="key", value=path
            ) from error
        except (ValueError, TypeError) as error:
            raise InvalidSigningKey(
                f"{path} is no Ed25519 private key in PEM without a password.", field="key", value=path
            ) from error

    @classmethod
    def generate(cls, path: Path, name: str) -> "PrivateKey":
        """Create a key in a new file that only its owner can read. Raises InvalidSigningKey."""
        ed25519 = _import_ed25519()
        key = ed25519.Ed25519PrivateKey.generate()
        try:
            with open(path, "xb", opener=private_opener) as file:
                file.write(ed25519.to_pem(key))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InvalidSigningKey(f"{path} can't be written: {error.strerror}.", field="key", value=path) from error
        return cls(name, key)


def read_key_text(source: str | Path) -> str:
    """Return the line of text of a public key, or that in a file. Raises InvalidSigningKey."""
    if not isinstance(cast(object, source), str | Path):
        raise InvalidSigningKey(
            f"A public key is a line of text, or its file, not {abbreviated_repr(source)}.", field="key", value=source
        )
    path = Path(source)
    try:
        return (path.read_text() if path.is_file() else str(source)).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSigningKey(f"The key in {path} can't be read.", field="key", value=path) from error


def verify_ed25519(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether the signature of the data is valid for the public key."""
    return _import_ed25519().is_valid_signature(public_key, signature, data)


def _import_ed25519():  # pyright infers the type of the module
    try:
        from . import ed25519  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidSigningKey(
            "Signatures need an extra: pip install 'tallybook[checkpoints]'.", field="key"
        ) from None
    return ed25519
