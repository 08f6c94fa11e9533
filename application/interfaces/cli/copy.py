"""The command `copy` and its output."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_number
from .options import JsonOption
from .session import interruptible, open_ledger
from .terminal import progress_bar, say

if TYPE_CHECKING:
    from ...results import LedgerCopy

SourceArgument = Annotated[
    str, typer.Argument(metavar="FROM", help="The URL of the ledger to copy, as for --ledger.", show_default=False)
]
TargetArgument = Annotated[
    str,
    typer.Argument(metavar="TO", help="The URL of the copy: a file or a schema without a ledger.", show_default=False),
]


def copy(source: SourceArgument, target: TargetArgument, as_json: JsonOption = False) -> None:
    """Copy a ledger between SQLite and PostgreSQL.

    The copy has the same events at the same positions, so that checkpoints, proofs, closed periods and access keys
    stay valid, and the key-value entries of a server. It is compared with the ledger, and appears as a whole: a copy
    that fails or is interrupted stores nothing. Stop all programs that record in the ledger first. The read models are
    projected again when they are needed.
    """
    with (
        open_ledger(source, as_json) as session,
        interruptible(session, lambda: "Interrupted. Nothing was copied."),
    ):
        with progress_bar("copying") as advance:
            result = session.metering.copy(target, progress=advance)
        session.confirm(result, show_copy)


def show_copy(result: "LedgerCopy") -> None:
    """Print what was copied, and what was recorded meanwhile."""
    entries = format_count(result.key_value_entries, "key-value entry", "key-value entries")
    say(f"copied: {format_count(result.position, 'event')} and {entries} to {result.location}; all equal")
    say(f"Merkle root of both: {result.root}")
    if result.later_events:
        count = format_number(result.later_events)
        say(f"{count} events were recorded meanwhile and aren't in the copy. Stop what records there, and copy again "
            "to a new database.")  # fmt: skip
