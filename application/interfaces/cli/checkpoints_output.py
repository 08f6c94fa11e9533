"""The output of the `checkpoint` commands."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..formatting import format_number, format_time
from .tables import table
from .terminal import say

if TYPE_CHECKING:
    from ...checkpoints.checkpoint import Checkpoint
    from ...checkpoints.publishing import PublishedCheckpoint
    from ...checkpoints.results import CheckpointVerification, CheckpointView, VerifiedConsistency, VerifiedEvent


def show_created(checkpoint: "CheckpointView") -> None:
    """Print a new checkpoint."""
    say(f"created: checkpoint of {_format_checkpoint(checkpoint)}")


def show_published(published: "PublishedCheckpoint") -> None:
    """Print the checkpoint, and how many events are new in it."""
    checkpoint = published.signed_checkpoint.checkpoint
    line = f"checkpoint of {format_number(checkpoint.size)} events at {format_time(checkpoint.time)}"
    say(f"published: {line}, {format_number(published.new_events)} of them new")


def show_stored(checkpoints: "Sequence[Checkpoint]") -> None:
    """Print a line for each checkpoint."""
    if not checkpoints:
        say("No checkpoints in the ledger yet. Create one with 'tallybook checkpoint publish'.")
        return
    from ...checkpoints.checkpoint import to_base64  # noqa: PLC0415 - loads the domain

    rows = [(format_number(one.size), format_time(one.time), to_base64(one.root), one.origin) for one in checkpoints]
    table(("events", "time", "root", "name"), rows, right=("events",), whole=("root",))


def show_verification(verification: "CheckpointVerification") -> None:
    """Print how many checkpoints match the ledger, and the first position that does not."""
    for warning in verification.warnings:
        say(f"note: {warning}")
    last = _format_checkpoint(verification.checkpoints[-1])
    matching, count = format_number(verification.matching_checkpoints), format_number(len(verification.checkpoints))
    say(f"{matching} of {count} checkpoints match, the last one of {last}")
    _show_unverified_signatures(*verification.checkpoints)
    if verification.difference is not None:
        say(f"differs: {verification.difference.message}")
        return
    covered, events = format_number(verification.checkpointed_events), format_number(verification.events)
    result = "all unchanged" if verification.checkpointed_events else "so nothing is verified yet"
    say(f"{covered} of {events} events are checkpointed, {result}")


def show_verified_event(verified: "VerifiedEvent") -> None:
    """Print a stored event whose inclusion proof is valid."""
    say(f"verified: position {verified.position} is in the checkpoint of {_format_checkpoint(verified.checkpoint)}")
    _show_unverified_signatures(verified.checkpoint)
    say(f"  {verified.topic}, {verified.originator_id}, version {verified.originator_version}")
    say(f"  {verified.state}")


def show_verified_consistency(verified: "VerifiedConsistency") -> None:
    """Print two checkpoints whose consistency proof is valid."""
    say("verified: the later checkpoint contains all events of the earlier one, unchanged")
    say(f"  earlier  {_format_checkpoint(verified.earlier)}")
    say(f"  later    {_format_checkpoint(verified.later)}")
    _show_unverified_signatures(verified.earlier, verified.later)


def _show_unverified_signatures(*checkpoints: "CheckpointView") -> None:
    """Print a note if there are signatures that no key verified. Their names are not shown: anybody can write them."""
    if any(checkpoint.unchecked_signatures and not checkpoint.signed_by for checkpoint in checkpoints):
        say("note: signature not verified; use --key")


def _format_checkpoint(checkpoint: "CheckpointView") -> str:
    signers = f", signed by {', '.join(checkpoint.signed_by)}" if checkpoint.signed_by else ""
    if checkpoint.cosigned_by:
        signers += f", cosigned by {', '.join(one.name for one in checkpoint.cosigned_by)}"
    return f"{format_number(checkpoint.size)} events at {format_time(checkpoint.time)}{signers}"
