"""The proof that one seal only adds events to those of another, RFC 6962's proof of consistency.

It needs no ledger to be checked.
"""

from dataclasses import dataclass
from pathlib import Path

from ...domain.errors import InvalidProof, InvalidSealFile
from .merkle import is_consistent
from .note import to_base64
from .proof import read_hashes
from .seal_file import Seal, Seals

_HEADING = "tallybook growth proof 1"


@dataclass(frozen=True, slots=True)
class GrowthProof:
    """What shows that the events of the earlier seal are the first ones of the later seal, unchanged."""

    hashes: tuple[bytes, ...]
    earlier: Seal
    later: Seal

    def __str__(self) -> str:
        hashes = "".join(f"{to_base64(one)}\n" for one in self.hashes)
        return f"{_HEADING}\n{hashes}\n{self.earlier.note}\n{self.later.note}\n"

    @classmethod
    def parse(cls, proof: str) -> "GrowthProof":
        """The proof that reads so. Raises InvalidProof where it is none."""
        head, _, seals = proof.partition("\n\n")
        heading, _, lines = head.partition("\n")
        try:
            if heading != _HEADING:
                raise ValueError(f"it doesn't begin with {_HEADING!r}")
            both = Seals.parse(Path("the proof"), seals.encode())
            earlier, later = both.all
            parsed = cls(read_hashes(lines), earlier, later)
        except (ValueError, InvalidSealFile) as error:
            raise InvalidProof(f"This is no proof of growth: {error}", field="proof", value=proof) from error
        if both.is_unfinished or not parsed.holds():
            raise InvalidProof(
                "The proof doesn't show that the later seal only adds events to the earlier one.",
                field="proof",
                value=proof,
            )
        return parsed

    def holds(self) -> bool:
        """Whether it does show that."""
        earlier, later = self.earlier.checkpoint, self.later.checkpoint
        return is_consistent(earlier.size, earlier.root, later.size, later.root, self.hashes)
