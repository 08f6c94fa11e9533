"""The command `import` and its output."""

import csv
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from ...spreadsheet_text import escape_formulas
from .error_text import to_cli_text
from .formatting import format_number
from .import_runs import (
    DryRunResult,
    ListOption,
    ReasonOption,
    UndoOption,
    UndoOptions,
    YesOption,
    show_all_imports,
    show_dry_run,
    undo_import,
)
from .options import (
    DEFAULT_LEDGER,
    AnyAgeOption,
    AnyDigitsOption,
    BackfillOption,
    ByOption,
    JsonOption,
    LedgerOption,
    TimezoneOption,
)
from .session import Session, interruptible, open_ledger, record_limits
from .tables import fields
from .terminal import progress_bar, say

if TYPE_CHECKING:
    from ...usage_import.columns import ColumnMapping
    from ...usage_import.files import UsageFile
    from ...usage_import.importer import ImportSummary, RejectedRow

FileArgument = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="CSV, JSON (a list) or JSONL.", show_default=False)
]
EventNameOption = Annotated[
    str | None, typer.Option(metavar="METER", help="The meter of all rows. Overrides the column event_name.")
]
TimestampColumnOption = Annotated[str, typer.Option(metavar="COLUMN", help="The column of the timestamps.")]
TimestampFormatOption = Annotated[
    str,
    typer.Option(
        metavar="FORMAT",
        help="auto (ISO dates and datetimes, Unix seconds of ten digits), unix-seconds, unix-milliseconds, "
        "compact-date (20260301) or spreadsheet-days (46082.5).",
    ),
]
ValueColumnOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column to store under the meter's value key.")
]
CustomerColumnOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column to store under the meter's customer key.")
]
CustomerOption = Annotated[str | None, typer.Option("--customer", metavar="CUSTOMER", help="The customer of all rows.")]
IdentifierColumnOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The identifier. By default 'identifier' if the file has it.")
]
PayloadColumnOption = Annotated[
    list[str] | None,
    typer.Option("--payload-column", metavar="COLUMN[=KEY]", help="A column to store in the payload. Repeatable."),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="csv, json or jsonl. By default from the file's suffix."),
]
PrefixOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Put this before each identifier of the file, as for a corrected file after the first was undone.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be recorded, and record nothing.")]
ErrorsOption = Annotated[
    Path | None, typer.Option("--errors", metavar="FILE", help="Write every row that is not recorded to this CSV.")
]


def import_file(
    file: FileArgument = None,
    event_name: EventNameOption = None,
    timestamp_column: TimestampColumnOption = "timestamp",
    timestamp_format: TimestampFormatOption = "auto",
    value_column: ValueColumnOption = None,
    customer: CustomerOption = None,
    customer_column: CustomerColumnOption = None,
    identifier_column: IdentifierColumnOption = None,
    identifier_prefix: PrefixOption = None,
    payload_column: PayloadColumnOption = None,
    file_format: FormatOption = None,
    errors: ErrorsOption = None,
    dry_run: DryRunOption = False,
    list_imports: ListOption = False,
    undo: UndoOption = None,
    reason: ReasonOption = None,
    by: ByOption = None,
    yes: YesOption = False,
    any_age: AnyAgeOption = False,
    timezone: TimezoneOption = "UTC",
    backfill: BackfillOption = False,
    any_digits: AnyDigitsOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Import a usage file: CSV, JSON or JSONL. Or list the imports, or undo one.

    The default columns are those of Stripe's import: identifier (optional), timestamp, event_name, and payload_KEY for
    each key of the payload. JSON may contain a payload object instead. For any other file, name its columns.

    Rows are recorded in batches. An invalid row is rejected and the others are recorded. Importing a file again
    records nothing twice: the identifier of a row without one is made from the contents of the file and the row
    number. A file that was extended or corrected is therefore another file; use identifiers if that can happen.

    The ledger stores which meter events each import recorded. --undo shows them, and cancels them with --yes.

    The exit status is 1 if any row was not recorded.
    """
    if sum((file is not None, list_imports, undo is not None)) != 1:
        raise typer.BadParameter("Name a FILE to import, or use --list, or --undo with an import.")
    if undo is not None:
        undo_import(undo, UndoOptions(reason, by, yes, any_age, timezone), ledger, as_json)
    if list_imports:
        show_all_imports(ledger, as_json)
    if file is None:
        return
    if customer is not None and customer_column is not None:
        raise typer.BadParameter("Use --customer or --customer-column, not both.")
    with open_ledger(ledger, as_json, lift=record_limits(backfill, any_digits)) as session:
        from ...usage_import.columns import ColumnMapping  # noqa: PLC0415 - loads the domain
        from ...usage_import.timestamps import TimestampFormat  # noqa: PLC0415
        from ...validation import require_choice  # noqa: PLC0415

        columns = ColumnMapping(
            event_name=event_name,
            timestamp=timestamp_column,
            identifier=identifier_column,
            value=value_column,
            customer=customer_column,
            customer_name=customer,
            payload=_parse_payload_columns(payload_column or []),
            timestamp_format=require_choice(timestamp_format, "timestamp_format", TimestampFormat),
            identifier_prefix=identifier_prefix or "",
        )
        source = ImportSource(file, file_format, columns, errors, by)
        if dry_run:
            result = _check_import(session, source, timezone)
            session.print(result, partial(show_dry_run, timezone))
            summary = result.summary
        else:
            summary = _run_import(session, source)
            session.confirm(summary, show_import)
    if summary.not_recorded:
        raise typer.Exit(1)


def _parse_payload_columns(texts: list[str]) -> dict[str, str]:
    """Return the payload key of each column; the column's own name if COLUMN has no =KEY."""
    return {column: key or column for column, _, key in (text.partition("=") for text in texts)}


@dataclass(frozen=True)
class ImportSource:
    """The file to import, how to read it, the file for rejected rows, and the requester."""

    path: Path
    format_name: str | None
    columns: "ColumnMapping"
    errors: Path | None
    by: str | None


def _run_import(session: Session, source: ImportSource) -> "ImportSummary":
    """Import the file. On Ctrl-C, print how many rows were read and end the command with exit status 130."""
    from ...usage_import.importer import UsageImporter  # noqa: PLC0415 - loads the domain

    rows = 0

    def describe_state() -> str:
        return f"Interrupted after {rows:,} rows. Run the command again to continue; nothing is counted twice."

    with interruptible(session, describe_state), ExitStack() as stack:
        file, on_rejected = _open_files(stack, session, source)
        importer = UsageImporter(session.metering, file, source.columns, by=source.by)
        with progress_bar("recording") as advance_recording:
            try:
                return importer.run(on_rejected=on_rejected, advance=advance_recording)
            finally:
                rows = importer.summary.rows


def _check_import(session: Session, source: ImportSource, timezone: str) -> DryRunResult:
    """Record the file in a temporary ledger."""
    from ...usage_import.dry_run import open_dry_run  # noqa: PLC0415 - loads the domain
    from ...usage_import.importer import UsageImporter  # noqa: PLC0415

    with ExitStack() as stack:
        file, on_rejected = _open_files(stack, session, source)
        dry_run = stack.enter_context(open_dry_run(session.metering, file.path, file.digest))
        importer = UsageImporter(session.metering, file, source.columns, recorder=dry_run)
        with progress_bar("checking") as advance_checking:
            summary = importer.run(on_rejected=on_rejected, advance=advance_checking)
        return DryRunResult(summary, dry_run.usage(timezone))


def _open_files(
    stack: ExitStack, session: Session, source: ImportSource
) -> "tuple[UsageFile, Callable[[RejectedRow], None] | None]":
    """Open the file, and the one for rejected rows. Return it and the function that writes a rejected row."""
    from ...usage_import.files import open_usage_file  # noqa: PLC0415 - loads the domain
    from ...usage_import.formats import FileFormat  # noqa: PLC0415
    from ...validation import require_choice  # noqa: PLC0415

    file_format = None if source.format_name is None else require_choice(source.format_name, "format", FileFormat)
    with progress_bar("reading") as advance_reading:
        file = stack.enter_context(open_usage_file(source.path, file_format, advance_reading))
    return file, stack.enter_context(_rejected_row_writer(session, source.errors, source.path))


class _ErrorFile:
    """The CSV of rejected rows. An error of writing it doesn't end the import; it is in `error`."""

    def __init__(self, file: TextIO) -> None:
        self.error: OSError | None = None
        self._file = file
        self._writer = csv.writer(file)

    def write(self, cells: Iterable[object]) -> None:
        """Write a row, unless an earlier one could not be written."""
        if self.error is None:
            try:
                self._writer.writerow(cells)
            except OSError as error:
                self.error = error

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error


@contextmanager
def _rejected_row_writer(
    session: Session, errors: Path | None, imported: Path
) -> Generator[Callable[["RejectedRow"], None] | None]:
    """Create the CSV of rejected rows and yield the function that writes one; yield None if `errors` is None.

    If the file can't be written completely, that is printed at the end, because the other rows are recorded.
    """
    if errors is None:
        yield None
        return
    if errors.exists() and errors.samefile(imported):
        raise typer.BadParameter("The error file would overwrite the file to import.", param_hint="'--errors'")
    from ...storage.private_files import private_opener  # noqa: PLC0415 - loads the domain

    try:
        file = _ErrorFile(
            open(  # noqa: SIM115 - it is closed below
                errors, "w", encoding="utf-8", errors="backslashreplace", newline="", opener=private_opener
            )
        )
    except OSError as error:
        raise typer.BadParameter(f"Cannot write {errors}: {error.strerror}.", param_hint="'--errors'") from None
    try:
        file.write(("line", "identifier", "outcome", "code", "field", "message"))
        yield lambda row: file.write(_error_cells(row))
    finally:
        file.close()
        if file.error is not None:
            message = f"The error file {errors} is incomplete: {file.error.strerror}. Import the file again to get it."
            session.print_problem("output_error", message)


def _error_cells(row: "RejectedRow") -> tuple[object, ...]:
    """Return the cells of a rejected row. Texts are escaped, because people open the file in a spreadsheet."""
    error = row.error
    message = to_cli_text(error.message, error.field)
    texts = (escape_formulas(text or "") for text in (row.identifier, row.outcome, error.code, error.field, message))
    return row.line, *texts


def show_import(summary: "ImportSummary") -> None:
    """Print the number of rows by outcome, and the first rows that were not recorded."""
    rate = f"{summary.rows / summary.seconds:,.0f} rows/s" if summary.seconds else "no time"
    say(f"{summary.file}: {format_number(summary.rows)} rows in {summary.seconds:.1f} s ({rate})")
    outcomes = ("accepted", "duplicate", "conflict", "rejected")
    fields((outcome, f"{format_number(getattr(summary, outcome)):>8}") for outcome in outcomes)
    if summary.run_id is not None:
        say(f"import {summary.run_id}")
    show_rejected_rows(summary)


def show_rejected_rows(summary: "ImportSummary") -> None:
    """Print the first rows that were not recorded, and what to do about them."""
    for row in summary.first_rejected:
        message = to_cli_text(row.error.message, row.error.field)
        say(f"line {row.line}: {row.outcome}, {row.error.code}: {message}")
    more = summary.not_recorded - len(summary.first_rejected)
    if more > 0:
        say(f"and {format_number(more)} more; --errors FILE writes all of them to a file.")
    if summary.not_recorded < summary.rows and summary.not_recorded and summary.generated:
        say("The identifiers of rows without one are made from the whole file, and a corrected file is another file.")
        say("Correct the rejected rows in a separate file; otherwise the other rows are counted twice.")
