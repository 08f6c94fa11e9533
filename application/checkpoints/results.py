"""What creating a checkpoint, verifying and proving answer: plain values."""

from dataclasses import dataclass
from datetime import datetime

from .checkpoint import to_base64
from .checkpoint_file import SignedCheckpoint
from .comparison import CheckpointDifference
from .signing_keys import PublicKey
from .witness import Cosignature


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """A checkpoint: the ledger's name in it, how many events it is of, their root in base64, when, and who signed it.

    `signed_by` has only whose signature was verified, with the key that was given or signed with. Anybody can write
    another name below a checkpoint: of these there are `unchecked_signatures`. `cosigned_by` has the witnesses whose
    cosignature was verified.
    """

    origin: str
    size: int
    root: str
    time: datetime
    signed_by: tuple[str, ...]
    unchecked_signatures: int
    cosigned_by: tuple[Cosignature, ...] = ()

    @classmethod
    def from_signed_checkpoint(
        cls,
        signed_checkpoint: SignedCheckpoint,
        verified_key: PublicKey | None,
        cosignatures: tuple[Cosignature, ...] = (),
    ) -> "CheckpointView":
        """The view of a checkpoint, whose signatures by `verified` and whose cosignatures are known to be right."""
        checkpoint = signed_checkpoint.checkpoint
        signers = () if verified_key is None else (verified_key.name,)
        cosigners = {cosignature.name for cosignature in cosignatures}
        unchecked = sum(
            signature.name not in cosigners and (verified_key is None or not verified_key.matches(signature))
            for signature in signed_checkpoint.note.signatures
        )
        root = to_base64(checkpoint.root)
        return cls(checkpoint.origin, checkpoint.size, root, checkpoint.time, signers, unchecked, cosignatures)


@dataclass(frozen=True, slots=True)
class CheckpointVerification:
    """The result of comparing a ledger with its checkpoints. It is unchanged if `difference` is None.

    The last of the `checkpoints` covers `checkpointed_events` of the ledger's `events`; the first
    `matching_checkpoints` match.
    `warnings` are problems of the files that do not prevent the verification.
    """

    events: int
    checkpointed_events: int
    checkpoints: tuple[CheckpointView, ...]
    matching_checkpoints: int
    difference: CheckpointDifference | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """A stored event that a proof holds for, and the checkpoint that it is under."""

    position: int
    originator_id: str
    originator_version: int
    topic: str
    state: str
    checkpoint: CheckpointView


@dataclass(frozen=True, slots=True)
class VerifiedConsistency:
    """Two checkpoints; the later one contains all events of the earlier one, unchanged."""

    earlier: CheckpointView
    later: CheckpointView
