"""The command `backup` and its output."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_number
from .options import DEFAULT_LEDGER, JsonOption, LedgerOption
from .session import interruptible, open_ledger
from .terminal import progress_bar, say

if TYPE_CHECKING:
    from ...results import Backup

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")]


def backup(
    file: FileArgument, overwrite: OverwriteOption = False, ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Write a checked backup of a SQLite ledger.

    Other programs may record meanwhile. The backup is one state of the ledger with every event that was acknowledged
    before the command. It can be opened like any ledger. A ledger in PostgreSQL is backed up by pg_dump.
    """
    with (
        open_ledger(ledger, as_json) as session,
        interruptible(session, lambda: f"Interrupted. No backup {str(file)!r} was written."),
    ):
        with progress_bar("writing") as advance:
            result = session.metering.backup(file, overwrite=overwrite, progress=advance)
        session.confirm(result, partial(show_backup, file))


def show_backup(file: Path, result: "Backup") -> None:
    """Print what a backup holds."""
    events, size = format_number(result.position), format_number(result.size_bytes)
    say(f"{file}: {events} events, {size} bytes, checked")
    say(f"SHA-256 {result.sha256}")
