"""Verifies proofs without a ledger, by trusted checkpoints or a public key."""

from pathlib import Path
from typing import cast

import msgspec

from ...domain.errors import InvalidParameter, InvalidProof
from ...domain.text import abbreviated_repr
from .checkpoint_file import CheckpointFile, SignedCheckpoint
from .paths import require_path
from .proofs import ConsistencyProof, InclusionProof
from .results import CheckpointView, VerifiedConsistency, VerifiedEvent
from .signing_keys import PublicKey

_LeafHeading = tuple[int, str, int, str]


def verify_inclusion(
    event: bytes, proof: str, *, checkpoints: str | Path | None = None, key: str | Path | None = None
) -> VerifiedEvent:
    """Verify that a checkpoint has a stored event, and return the event as it is stored.

    The proof contains the checkpoint. It must be in `checkpoints`, a checkpoint file or a file of one checkpoint, or be
    signed by `key`, a public key or its file; both if both are passed. Raises InvalidProof.
    """
    if not isinstance(cast(object, event), bytes):
        raise InvalidProof(
            f"'event' must be the bytes that were checkpointed, not {abbreviated_repr(event)}.",
            field="event",
            value=event,
        )
    parsed = InclusionProof.parse(_document(proof), event)
    verified_key = _require_trust_anchor([parsed.signed_checkpoint], checkpoints, key)
    heading, _, state = event.partition(b"\n")
    try:
        position, stream, version, topic = msgspec.json.decode(heading, type=_LeafHeading)
    except msgspec.MsgspecError as error:
        raise InvalidProof(
            "What was checkpointed is no event that Tallybook writes.", field="event", value=event
        ) from error
    if position != parsed.position:
        raise InvalidProof(
            f"The event says that it is at position {position}, and was checkpointed at {parsed.position}.",
            field="event",
            value=event,
        )
    checkpoint = CheckpointView.from_signed_checkpoint(parsed.signed_checkpoint, verified_key)
    return VerifiedEvent(position, stream, version, topic, state.decode(errors="replace"), checkpoint)


def verify_consistency(
    proof: str, *, checkpoints: str | Path | None = None, key: str | Path | None = None
) -> VerifiedConsistency:
    """Check that a later checkpoint only adds events to an earlier one; give both.

    The earlier one must be in `checkpoints`, or both be signed by `key`; both if both are passed. Of a later one
    that isn't signed the root is shown, and its size and time are only said. Raises InvalidProof.
    """
    parsed = ConsistencyProof.parse(_document(proof))
    _require_trust_anchor([parsed.earlier], checkpoints, None if checkpoints else key)
    verified_key = None if key is None else _require_trust_anchor([parsed.earlier, parsed.later], None, key)
    return VerifiedConsistency(
        CheckpointView.from_signed_checkpoint(parsed.earlier, verified_key),
        CheckpointView.from_signed_checkpoint(parsed.later, verified_key),
    )


def _document(proof: object) -> str:
    if not isinstance(proof, str):
        raise InvalidProof(
            f"'proof' must be the text of a proof, not {abbreviated_repr(proof)}.", field="proof", value=proof
        )
    return proof


def _require_trust_anchor(
    signed_checkpoints: list[SignedCheckpoint], checkpoints: str | Path | None, key: str | Path | None
) -> PublicKey | None:
    """Raise InvalidProof unless the checkpoints are trusted and signed; return the key, if any is passed."""
    if checkpoints is None and key is None:
        raise InvalidParameter(
            "A proof alone proves nothing: pass the checkpoints that you trust, or the public key.",
            field="checkpoints",
        )
    trusted = (
        None
        if checkpoints is None
        else {
            trusted_checkpoint.checkpoint
            for trusted_checkpoint in CheckpointFile(require_path(checkpoints, "checkpoints")).read_trusted()
        }
    )
    public_key = None if key is None else PublicKey.load(key)
    for signed_checkpoint in signed_checkpoints:
        if trusted is not None and signed_checkpoint.checkpoint not in trusted:
            raise InvalidProof(
                f"The proven checkpoint of {signed_checkpoint.checkpoint.size} events is not in {checkpoints}.",
                field="checkpoints",
            )
        if public_key is not None and not public_key.has_signed(signed_checkpoint.note):
            raise InvalidProof(f"The checkpoint in the proof is not signed by {public_key}.", field="key")
    return public_key
