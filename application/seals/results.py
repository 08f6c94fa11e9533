"""What sealing, verifying and proving answer: plain values."""

from dataclasses import dataclass
from datetime import datetime

from .note import to_base64
from .seal_file import Seal
from .verification import SealDifference


@dataclass(frozen=True, slots=True)
class SealView:
    """A seal: the ledger's name in it, how many events it is of, their root in base64, when, and who signed it."""

    origin: str
    size: int
    root: str
    time: datetime
    signed_by: tuple[str, ...]

    @classmethod
    def of(cls, seal: Seal) -> "SealView":
        """The view of a seal."""
        one = seal.checkpoint
        signers = tuple(signature.name for signature in seal.note.signatures)
        return cls(one.origin, one.size, to_base64(one.root), one.time, signers)


@dataclass(frozen=True, slots=True)
class SealVerification:
    """Whether the ledger is as it was sealed: it is where there is no `difference`.

    `sealed` of the ledger's `events` are under the last of the `seals`, and the first `agreeing` of these match.
    `notes` tell what is wrong with the files beside, without which the ledger could be verified all the same.
    """

    events: int
    sealed: int
    seals: tuple[SealView, ...]
    agreeing: int
    difference: SealDifference | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProvedEvent:
    """A stored event that a proof holds for, and the seal that it is under."""

    position: int
    originator_id: str
    originator_version: int
    topic: str
    state: str
    seal: SealView


@dataclass(frozen=True, slots=True)
class ProvedGrowth:
    """Two seals of which the later one is of all the events of the earlier one, unchanged, and of those added since."""

    earlier: SealView
    later: SealView
