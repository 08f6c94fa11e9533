"""One run of the import command: files opened, progress shown, an interruption told."""

import csv
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer

from ..arguments import choice
from ..importing import ImportSummary, Refusal, UsageImport
from ..usage_columns import Columns
from ..usage_files import open_usage_file
from ..usage_formats import FileFormat
from . import terminal
from .interruption import interruptible
from .session import Session


def run_import(
    session: Session, path: Path, file_format: str | None, columns: Columns, errors: Path | None
) -> ImportSummary:
    """Import the file; where Ctrl-C ends it, say how far it came and end the command with status 130."""
    written = None if file_format is None else choice(file_format, "format", FileFormat)
    rows = 0

    def left_behind() -> str:
        return f"Interrupted after {rows:,} rows. Start it again to go on; nothing is counted twice."

    with interruptible(session, left_behind), ExitStack() as stack:
        with terminal.progress("reading") as read:
            file = stack.enter_context(open_usage_file(path, written, read))
        usage = UsageImport(session.metering, file, columns)
        on_refusal = stack.enter_context(_written(errors, path))
        with terminal.progress("recording") as advance:
            try:
                return usage.run(on_refusal=on_refusal, advance=advance)
            finally:
                rows = usage.summary.rows


@contextmanager
def _written(errors: Path | None, imported: Path) -> Generator[Callable[[Refusal], None] | None]:
    """What writes each refusal to the file of errors, if one is wanted."""
    if errors is None:
        yield None
        return
    if errors.exists() and errors.samefile(imported):
        raise typer.BadParameter("The file of errors would overwrite the file to import.", param_hint="'--errors'")
    try:
        file = errors.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise typer.BadParameter(f"{errors} can't be written: {error.strerror}.", param_hint="'--errors'") from None
    with file:
        writer = csv.writer(file)
        writer.writerow(("line", "identifier", "outcome", "code", "field", "message"))
        yield lambda refusal: writer.writerow(_cells(refusal))


def _cells(refusal: Refusal) -> tuple[object, ...]:
    error = refusal.error
    return refusal.line, refusal.identifier, refusal.outcome, error.code, error.field, error.message
