"""What sealing, verifying and proving answer: plain values."""

from dataclasses import dataclass
from datetime import datetime

from .keys import PublicKey
from .note import to_base64
from .seal_file import Seal
from .verification import SealDifference


@dataclass(frozen=True, slots=True)
class SealView:
    """A seal: the ledger's name in it, how many events it is of, their root in base64, when, and who signed it.

    `signed_by` has only whose signature was verified, with the key that was given or signed with. Anybody can write
    another name below a seal: of these there are `unchecked_signatures`.
    """

    origin: str
    size: int
    root: str
    time: datetime
    signed_by: tuple[str, ...]
    unchecked_signatures: int

    @classmethod
    def of(cls, seal: Seal, verified: PublicKey | None) -> "SealView":
        """The view of a seal, whose signatures by `verified` are known to be right."""
        one = seal.checkpoint
        signers = () if verified is None else (verified.name,)
        unchecked = sum(verified is None or not verified.is_of(signature) for signature in seal.note.signatures)
        return cls(one.origin, one.size, to_base64(one.root), one.time, signers, unchecked)


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
