"""The proof that a stored event is under a seal, by https://c2sp.org/tlog-proof. It needs no ledger to be checked."""

import re
from dataclasses import dataclass

from ...domain.errors import InvalidProof
from .merkle import HASH_BYTES, leaf_hash, root_from_inclusion
from .note import from_base64, to_base64
from .seal_file import Seal

_TEXT = re.compile(r"c2sp\.org/tlog-proof@v1\nindex (0|[1-9][0-9]{0,18})\n((?:[^\n]+\n){0,63})\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class EventProof:
    """What leads from the event at a position to the root in a seal. `event` is what is hashed of it: its row."""

    position: int
    event: bytes
    hashes: tuple[bytes, ...]
    seal: Seal

    def __str__(self) -> str:
        """The proof without the event."""
        hashes = "".join(f"{to_base64(one)}\n" for one in self.hashes)
        return f"c2sp.org/tlog-proof@v1\nindex {self.position - 1}\n{hashes}\n{self.seal.note}"

    @classmethod
    def parse(cls, proof: str, event: bytes) -> "EventProof":
        """The proof that reads so, of this event. Raises InvalidProof where it is none."""
        found = _TEXT.fullmatch(proof)
        try:
            if found is None:
                raise ValueError("it doesn't read like https://c2sp.org/tlog-proof")
            hashes = read_hashes(found[2])
            parsed = cls(int(found[1]) + 1, event, hashes, Seal.parse(found[3]))
        except ValueError as error:
            raise InvalidProof(f"This is no proof of an event: {error}.", field="proof", value=proof) from error
        if not parsed.holds():
            raise InvalidProof(
                "The proof doesn't lead from this event to the sealed root: one of them was changed, or they belong to "
                "different events.",
                field="event",
                value=event,
            )
        return parsed

    def holds(self) -> bool:
        """Whether it does lead from the event to the root."""
        sealed = self.seal.checkpoint
        return root_from_inclusion(leaf_hash(self.event), self.position - 1, sealed.size, self.hashes) == sealed.root


def read_hashes(lines: str) -> tuple[bytes, ...]:
    """The hashes of a proof, one a line. Raises ValueError."""
    hashes = tuple(from_base64(line) for line in lines.removesuffix("\n").split("\n")) if lines else ()
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ValueError(f"a hash in it doesn't have {HASH_BYTES} bytes")
    return hashes
