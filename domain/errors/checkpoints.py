"""Errors of checkpoints, proofs and signing keys."""

from .base import Conflict, Corrupted, InvalidRequest, NotFound, Unavailable


class InvalidCheckpointFile(InvalidRequest):
    """A checkpoint file is missing, corrupted, or not signed by the expected key."""

    code = "invalid_checkpoint_file"


class CheckpointMismatch(Corrupted):
    """The ledger no longer contains the events that a checkpoint covers."""

    code = "checkpoint_mismatch"


class NotCheckpointed(NotFound):
    """The event was recorded after the last checkpoint, or there is no such checkpoint."""

    code = "not_checkpointed"


class InvalidProof(InvalidRequest):
    """The proof does not hold for this event and checkpoint."""

    code = "invalid_proof"


class InvalidSigningKey(InvalidRequest):
    """A key that signs or verifies checkpoints cannot be used."""

    code = "invalid_signing_key"


class CheckpointDestinationUnavailable(Unavailable):
    """A place where checkpoints are stored outside the ledger can't be used at the moment."""

    code = "checkpoint_destination_unavailable"


class CheckpointInProgress(Conflict):
    """Another process is creating a checkpoint of this ledger: retry later."""

    code = "checkpoint_in_progress"
