"""Signed notes, by https://c2sp.org/signed-note: some lines of text, a blank line, and a line for each signature."""

import base64
import binascii
import re
from dataclasses import dataclass

_SIGNATURE = re.compile(r"— (?P<name>[^\s+]+) (?P<value>[A-Za-z0-9+/]+={0,2})")
KEY_HASH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature: whose, the first bytes of the hash of their key, and what they signed with it."""

    name: str
    key_hash: bytes
    value: bytes

    def __str__(self) -> str:
        return f"— {self.name} {to_base64(self.key_hash + self.value)}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends its last line, and its signatures. Here it may have none."""

    text: str
    signatures: tuple[Signature, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}\n" + "".join(f"{one}\n" for one in self.signatures)

    @classmethod
    def parse(cls, note: str) -> "Note":
        """The note that reads so, and no other. Raises ValueError."""
        text, blank, below = note.rpartition("\n\n")
        if not blank or not text or not (below == "" or below.endswith("\n")):
            raise ValueError("it isn't some lines, a blank line, and signatures")
        parsed = cls(f"{text}\n", tuple(_signature(line) for line in below.split("\n")[:-1]))
        if not all(one.isprintable() for one in text.split("\n")):
            raise ValueError("it has characters that can't be printed")
        return parsed


def _signature(line: str) -> Signature:
    found = _SIGNATURE.fullmatch(line)
    value = b"" if found is None else from_base64(found["value"])
    if found is None or len(value) <= KEY_HASH_BYTES:
        raise ValueError(f"{line!r} is not a signature")
    return Signature(found["name"], value[:KEY_HASH_BYTES], value[KEY_HASH_BYTES:])


def to_base64(data: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """The bytes that base64 writes so, and no other. Raises ValueError."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{text!r} is not base64") from error
    if to_base64(data) != text:
        raise ValueError(f"{text!r} is not how base64 is written")
    return data
