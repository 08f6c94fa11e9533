"""Signed notes, by https://c2sp.org/signed-note: some lines of text, a blank line, and a line for each signature."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from .merkle import HASH_BYTES

_SIGNATURE_PATTERN = re.compile(r"— (?P<name>[^\s+]+) (?P<value>[A-Za-z0-9+/]+={0,2})")
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
        return f"{self.text}\n" + "".join(f"{signature}\n" for signature in self.signatures)

    @classmethod
    def parse(cls, note: str) -> "Note":
        """The note that reads so, and no other. Raises ValueError."""
        text, separator, signature_lines = note.rpartition("\n\n")
        if not separator or not text or not (signature_lines == "" or signature_lines.endswith("\n")):
            raise ValueError("it isn't some lines, a blank line, and signatures")
        parsed = cls(f"{text}\n", tuple(_parse_signature(line) for line in signature_lines.split("\n")[:-1]))
        if not all(line.isprintable() for line in text.split("\n")):
            raise ValueError("it has characters that can't be printed")
        return parsed


def _parse_signature(line: str) -> Signature:
    match = _SIGNATURE_PATTERN.fullmatch(line)
    value = b"" if match is None else from_base64(match["value"])
    if match is None or len(value) <= KEY_HASH_BYTES:
        raise ValueError(f"{line!r} is not a signature")
    return Signature(match["name"], value[:KEY_HASH_BYTES], value[KEY_HASH_BYTES:])


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


ORIGIN_PATTERN = re.compile(r"[!-*,-~]{1,100}")
"""A ledger's name in its checkpoints: ASCII without spaces and `+`, as it is a key's name too."""
_CHECKPOINT_PATTERN = re.compile(
    r"(?P<origin>[^\n]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[^\n]+)\n"
    r"time (?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)\n"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The first `size` events of the ledger called `origin` had this root at that time, in whole seconds of UTC."""

    origin: str
    size: int
    root: bytes
    time: datetime

    def __str__(self) -> str:
        time = self.time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\ntime {time}Z\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """The checkpoint that reads so, and no other. Raises ValueError."""
        match = _CHECKPOINT_PATTERN.fullmatch(text)
        if match is None:
            raise ValueError("a checkpoint is four lines: origin, size, root and time")
        if ORIGIN_PATTERN.fullmatch(match["origin"]) is None:
            raise ValueError(f"{match['origin']!r} is no name of a ledger")
        root = from_base64(match["root"])
        if len(root) != HASH_BYTES:
            raise ValueError(f"a root has {HASH_BYTES} bytes, not {len(root)}")
        return cls(match["origin"], int(match["size"]), root, datetime.fromisoformat(match["time"]))
