"""A checkpoint of a ledger, by https://c2sp.org/tlog-checkpoint: how many events it had, their root, and when."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from .merkle import HASH_BYTES
from .note import from_base64, to_base64

ORIGIN = re.compile(r"[!-*,-~]{1,100}")
"""A ledger's name in its checkpoints: ASCII without spaces and `+`, as it is a key's name too."""
_TEXT = re.compile(
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
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError("a checkpoint is four lines: origin, size, root and time")
        if ORIGIN.fullmatch(found["origin"]) is None:
            raise ValueError(f"{found['origin']!r} is no name of a ledger")
        root = from_base64(found["root"])
        if len(root) != HASH_BYTES:
            raise ValueError(f"a root has {HASH_BYTES} bytes, not {len(root)}")
        return cls(found["origin"], int(found["size"]), root, datetime.fromisoformat(found["time"]))
