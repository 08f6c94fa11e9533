"""The commands `archive prune` and `archive pruned`, and their output."""

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_number, format_time
from .options import DEFAULT_LEDGER, DestinationArgument, JsonOption, LedgerOption, OnBehalfOfOption
from .session import interruptible, open_for_query, open_ledger
from .terminal import progress_bar, say

if TYPE_CHECKING:
    from ...archive.results import PrunedHistory, PruningResult

_DAYS = re.compile(r"([1-9][0-9]{0,5})d")
KeepOption = Annotated[
    str, typer.Option(metavar="AGE", help="Keep what was recorded in this time in the ledger: a number of days.")
]
CheckpointsOption = Annotated[
    Path,
    typer.Option(metavar="FILE", help="The checkpoint file that the archive must match.", show_default=False),
]
KeyOption = Annotated[
    str,
    typer.Option(metavar="KEY", help="The public key that signed the checkpoints, or its file.", show_default=False),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Verify everything, and change nothing.")]
CompactOption = Annotated[
    bool,
    typer.Option("--compact", help="Return the freed space to the file system. Recording waits meanwhile."),
]


def prune(
    destination: DestinationArgument,
    checkpoints: CheckpointsOption,
    key: KeyOption,
    keep: KeepOption = "400d",
    dry_run: DryRunOption = False,
    compact: CompactOption = False,
    by: OnBehalfOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Remove the contents of old usage, which an archive has.

    Every total, explanation, proof and duplicate stays the same: what needs the contents of an old event reads it from
    the archive. The whole archive is verified first, against the ledger and the checkpoints, which must be signed. If
    the archive was moved, run this with the new place. An interrupted run is continued by the next one.
    """
    days = _DAYS.fullmatch(keep)
    if days is None:
        raise typer.BadParameter(f"{keep!r} is not a number of days like 400d.", param_hint="'--keep'")
    with (
        open_for_query(ledger, as_json) as session,
        interruptible(session, lambda: "Interrupted. The ledger answers as before; run it again to go on."),
    ):
        with progress_bar("pruning") as advance:
            result = session.metering.archive.prune(
                destination,
                checkpoints=checkpoints,
                key=key,
                keep=timedelta(days=int(days[1])),
                by=by,
                dry_run=dry_run,
                compact=compact,
                progress=advance,
            )
        session.confirm(result, show_pruning)


def pruned(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Show which archive has the contents of old usage."""
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.archive.pruned(), show_pruned)


def show_pruning(result: "PruningResult") -> None:
    """Print what left the ledger, where it is, and how much space that freed."""
    say(f"verified: the archive to position {format_number(result.archived_position)}, "
        f"a signed checkpoint to {format_number(result.checkpoint_size)}")  # fmt: skip
    position = format_number(result.position)
    if result.events:
        done = "would be pruned" if result.is_dry_run else "pruned"
        events, size = format_count(result.events, "event"), format_number(result.state_bytes)
        say(f"{done}: {events} up to position {position}, {size} bytes; they are in {result.archive}")
    elif result.position:
        say(f"nothing to prune: usage up to position {position} is pruned already; it is in {result.archive}")
    else:
        until = format_time(result.recorded_until.replace(microsecond=0))
        say(f"nothing to prune: no archived usage in a checkpoint was recorded until {until}")
    if not result.is_dry_run:
        say(f"the ledger takes {format_number(result.size_after)} bytes, {format_number(result.size_before)} before")


def show_pruned(history: "PrunedHistory | None") -> None:
    """Print where the contents of old usage are."""
    if history is None:
        say("all usage is in the ledger")
        return
    by = "" if history.by is None else f" by {history.by}"
    say(f"usage up to position {format_number(history.position)} is in {history.archive}")
    say(f"pruned at {format_time(history.pruned_at)}{by}")
