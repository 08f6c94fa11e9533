"""Inclusion proofs (https://c2sp.org/tlog-proof) and consistency proofs. Verification needs no ledger."""

import re
from dataclasses import dataclass
from pathlib import Path

from ...domain.errors import InvalidCheckpointFile, InvalidProof
from .checkpoint import from_base64, to_base64
from .checkpoint_file import SignedCheckpoint, SignedCheckpoints
from .merkle import HASH_BYTES, is_consistent, leaf_hash, root_from_inclusion

_PROOF_PATTERN = re.compile(
    r"c2sp\.org/tlog-proof@v1\nindex (0|[1-9][0-9]{0,18})\n((?:[^\n]+\n){0,63})\n(.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """What leads from the event at a position to the root in a checkpoint. `event` is what is hashed of it: its row."""

    position: int
    event: bytes
    hashes: tuple[bytes, ...]
    signed_checkpoint: SignedCheckpoint

    def __str__(self) -> str:
        """The proof without the event."""
        hashes = "".join(f"{to_base64(digest)}\n" for digest in self.hashes)
        return f"c2sp.org/tlog-proof@v1\nindex {self.position - 1}\n{hashes}\n{self.signed_checkpoint.note}"

    @classmethod
    def parse(cls, proof: str, event: bytes) -> "InclusionProof":
        """The proof that reads so, of this event. Raises InvalidProof where it is none."""
        match = _PROOF_PATTERN.fullmatch(proof)
        try:
            if match is None:
                raise ValueError("it doesn't read like https://c2sp.org/tlog-proof")
            hashes = parse_hashes(match[2])
            parsed = cls(int(match[1]) + 1, event, hashes, SignedCheckpoint.parse(match[3]))
        except ValueError as error:
            raise InvalidProof(f"This is not an inclusion proof: {error}.", field="proof", value=proof) from error
        if not parsed.is_valid():
            raise InvalidProof(
                "The proof doesn't lead from this event to the checkpoint's root: one was changed, or they belong to "
                "different events.",
                field="event",
                value=event,
            )
        return parsed

    def is_valid(self) -> bool:
        """Whether it does lead from the event to the root."""
        checkpoint = self.signed_checkpoint.checkpoint
        return (
            root_from_inclusion(leaf_hash(self.event), self.position - 1, checkpoint.size, self.hashes)
            == checkpoint.root
        )


def parse_hashes(lines: str) -> tuple[bytes, ...]:
    """The hashes of a proof, one a line. Raises ValueError."""
    hashes = tuple(from_base64(line) for line in lines.removesuffix("\n").split("\n")) if lines else ()
    if any(len(digest) != HASH_BYTES for digest in hashes):
        raise ValueError(f"a hash in it doesn't have {HASH_BYTES} bytes")
    return hashes


_HEADING = "tallybook growth proof 1"


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """What shows that the events of the earlier checkpoint are the first ones of the later checkpoint, unchanged."""

    hashes: tuple[bytes, ...]
    earlier: SignedCheckpoint
    later: SignedCheckpoint

    def __str__(self) -> str:
        hashes = "".join(f"{to_base64(digest)}\n" for digest in self.hashes)
        return f"{_HEADING}\n{hashes}\n{self.earlier.note}\n{self.later.note}\n"

    @classmethod
    def parse(cls, proof: str) -> "ConsistencyProof":
        """The proof that reads so. Raises InvalidProof where it is none."""
        head, _, checkpoints_text = proof.partition("\n\n")
        heading, _, lines = head.partition("\n")
        try:
            if heading != _HEADING:
                raise ValueError(f"it doesn't begin with {_HEADING!r}")
            checkpoints = SignedCheckpoints.parse(Path("the proof"), checkpoints_text.encode())
            earlier, later = checkpoints.all
            parsed = cls(parse_hashes(lines), earlier, later)
        except (ValueError, InvalidCheckpointFile) as error:
            raise InvalidProof(f"This is not a consistency proof: {error}", field="proof", value=proof) from error
        if checkpoints.has_incomplete_tail or not parsed.is_valid():
            raise InvalidProof(
                "The proof doesn't show that the later checkpoint only adds events to the earlier one.",
                field="proof",
                value=proof,
            )
        return parsed

    def is_valid(self) -> bool:
        """Whether it does show that."""
        earlier, later = self.earlier.checkpoint, self.later.checkpoint
        return is_consistent(earlier.size, earlier.root, later.size, later.root, self.hashes)
