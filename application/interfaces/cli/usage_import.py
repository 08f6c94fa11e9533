"""The command `import`."""

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..import_text import format_dialect
from .error_text import to_cli_text
from .import_options import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_ROWS,
    CustomerColumnOption,
    CustomerOption,
    DateFormatOption,
    DecimalOption,
    DelimiterOption,
    DryRunOption,
    EncodingOption,
    ErrorsOption,
    EventNameOption,
    EveryOption,
    FileArgument,
    FormatOption,
    HeaderRowOption,
    IdentifierColumnOption,
    ImportTimezoneOption,
    MaxBytesOption,
    MaxRowsOption,
    PayloadColumnOption,
    PrefixOption,
    RetryOption,
    SheetOption,
    SourceOption,
    ThousandsOption,
    TimestampColumnOption,
    TimestampFormatOption,
    ValueColumnOption,
)
from .import_output import show_import
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
from .object_imports import ImportRequest, ObjectOptions, import_objects, require_object_options
from .option_groups import TableOptions, with_option_groups
from .options import (
    DEFAULT_LEDGER,
    AnyAgeOption,
    AnyDigitsOption,
    BackfillOption,
    LedgerOption,
    OnBehalfOfOption,
)
from .session import Session, interruptible, open_ledger, record_limits
from .terminal import format_name, progress_bar, say

if TYPE_CHECKING:
    from ...usage_import.files import UsageFile
    from ...usage_import.formats import Row
    from ...usage_import.results import ImportSummary, RejectedRow


@with_option_groups
def import_file(
    file: FileArgument = None,
    *,
    event_name: EventNameOption = None,
    timestamp_column: TimestampColumnOption = "timestamp",
    timestamp_format: TimestampFormatOption = "auto",
    date_format: DateFormatOption = None,
    timezone: ImportTimezoneOption = None,
    value_column: ValueColumnOption = None,
    decimal: DecimalOption = None,
    thousands: ThousandsOption = None,
    customer: CustomerOption = None,
    customer_column: CustomerColumnOption = None,
    identifier_column: IdentifierColumnOption = None,
    identifier_prefix: PrefixOption = None,
    source: SourceOption = "",
    payload_column: PayloadColumnOption = None,
    file_format: FormatOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    header_row: HeaderRowOption = None,
    sheet: SheetOption = None,
    errors: ErrorsOption = None,
    dry_run: DryRunOption = False,
    list_imports: ListOption = False,
    undo: UndoOption = None,
    reason: ReasonOption = None,
    by: OnBehalfOfOption = None,
    yes: YesOption = False,
    every: EveryOption = None,
    retry: RetryOption = False,
    max_bytes: MaxBytesOption = DEFAULT_MAX_BYTES,
    max_rows: MaxRowsOption = DEFAULT_MAX_ROWS,
    any_age: AnyAgeOption = False,
    backfill: BackfillOption = False,
    any_digits: AnyDigitsOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Import a usage file, or the objects of an object store. Or list the imports, or undo one.

    The default columns are those of Stripe's import: identifier (optional), timestamp, event_name, and payload_KEY for
    each key of the payload. JSON may contain a payload object instead, or be CloudEvents. For any other file, name its
    columns; in JSON also by a path such as data.tokens.

    How the file is read is shown first. If its encoding, its separator, its dates, times or numbers are unclear, the
    error names the option, and nothing is recorded. Then rows are recorded in batches. An invalid row is rejected and
    the others are recorded.

    Importing a file again records nothing twice, also after it has grown: a row without an identifier gets one from its
    content, and its number among equal rows.

    With a URL, each object is read once, whatever happens in between; one that is replaced is read again, and named.
    An object that can't be read affects no others. --list with the URL shows what was read.

    The ledger stores which meter events each import recorded. --undo shows them, and cancels them with --yes.

    The exit status is 1 if any row was not recorded.
    """
    is_url = file is not None and "://" in file
    if sum((file is not None, list_imports and not is_url, undo is not None)) != 1:
        raise typer.BadParameter("Name a FILE to import, or use --list, or --undo with an import.")
    object_options = ObjectOptions(every, retry, max_bytes, max_rows, list_imports)
    require_object_options(object_options, is_url=is_url, is_file_only=dry_run or errors is not None)
    if undo is not None:
        undo_import(undo, UndoOptions(reason, by, yes, any_age, timezone or "UTC"), ledger, output)
    if list_imports and not is_url:
        show_all_imports(ledger, output)
    if file is None:
        return
    if output.as_csv and not dry_run:
        raise typer.BadParameter("--csv needs --dry-run, --list or --undo: recording has no table.")
    if customer is not None and customer_column is not None:
        raise typer.BadParameter("Use --customer or --customer-column, not both.")
    with open_ledger(ledger, output.as_json, lift=record_limits(backfill, any_digits)) as session:
        from ...usage_import.formats import FileFormat, FileOptions  # noqa: PLC0415 - loads the domain
        from ...usage_import.read_options import delimiter_of, row_format_of  # noqa: PLC0415
        from ...validation import require_choice  # noqa: PLC0415

        row_format = row_format_of(
            event_name=event_name,
            timestamp_column=timestamp_column,
            timestamp_format=timestamp_format,
            date_format=date_format,
            timezone=timezone,
            value_column=value_column,
            decimal=decimal,
            thousands=thousands,
            customer=customer,
            customer_column=customer_column,
            identifier_column=identifier_column,
            identifier_prefix=identifier_prefix,
            payload_columns=payload_column or [],
        )
        chosen_format = None if file_format is None else require_choice(file_format, "format", FileFormat)
        request = ImportRequest(
            Path(file),
            FileOptions(chosen_format, encoding, delimiter_of(delimiter), header_row, sheet),
            row_format,
            source,
            errors,
            by,
            output.is_text,
        )
        if is_url:
            import_objects(session, file, request, object_options)
            return
        if dry_run:
            result = _check_import(session, request, timezone or "UTC")
            show = partial(show_dry_run, timezone or "UTC")
            session.print(result, output.show(show, lambda tables: tables.dry_run))
            summary = result.summary
        else:
            summary = _run_import(session, request)
            session.confirm(summary, show_import)
    if summary.not_recorded:
        raise typer.Exit(1)


def _run_import(session: Session, request: ImportRequest) -> "ImportSummary":
    """Import the file. On Ctrl-C, print how many rows were read and end the command with exit status 130."""
    from ...usage_import.importer import UsageImporter  # noqa: PLC0415 - loads the domain

    rows = 0

    def describe_state() -> str:
        return f"Interrupted after {rows:,} rows. Run the command again to continue; nothing is counted twice."

    with interruptible(session, describe_state), ExitStack() as stack:
        file = _open_file(stack, request)
        importer = UsageImporter(session.metering, file, request.row_format, source=request.source, by=request.by)
        with progress_bar("reading") as advance_reading:
            importer.check(advance_reading)
        on_rejected = stack.enter_context(_rejected_row_writer(session, request.errors, file))
        with progress_bar("recording") as advance_recording:
            try:
                return importer.run(on_rejected=on_rejected, advance=advance_recording)
            finally:
                rows = importer.summary.rows


def _check_import(session: Session, request: ImportRequest, timezone: str) -> DryRunResult:
    """Record the file in a temporary ledger."""
    from ...usage_import.dry_run import open_dry_run  # noqa: PLC0415 - loads the domain
    from ...usage_import.importer import UsageImporter  # noqa: PLC0415

    with ExitStack() as stack:
        file = _open_file(stack, request)
        dry_run = stack.enter_context(open_dry_run(session.metering, file.path, file.digest))
        importer = UsageImporter(
            session.metering,
            file,
            request.row_format,
            source=request.source,
            recorder=dry_run,
            max_first_rejected=10_000,
        )
        importer.check()
        on_rejected = stack.enter_context(_rejected_row_writer(session, request.errors, file))
        with progress_bar("checking") as advance_checking:
            summary = importer.run(on_rejected=on_rejected, advance=advance_checking)
        return DryRunResult(summary, dry_run.usage(timezone))


def _open_file(stack: ExitStack, request: ImportRequest) -> "UsageFile":
    """Open the file, and print how it is read."""
    from ...usage_import.files import open_usage_file  # noqa: PLC0415 - loads the domain

    errors, path = request.errors, request.path
    if errors is not None and errors.exists() and path.exists() and errors.samefile(path):
        raise typer.BadParameter("The error file would overwrite the file to import.", param_hint="'--errors'")
    with progress_bar("reading") as advance:
        file = stack.enter_context(open_usage_file(request.path, request.options, advance))
    if request.is_shown:
        say(f"{request.path}: {format_dialect(file.dialect, format_name)}")
        sys.stdout.flush()
    return file


@contextmanager
def _rejected_row_writer(
    session: Session, errors: Path | None, file: "UsageFile"
) -> Generator[Callable[["RejectedRow", "Row"], None] | None]:
    """Create the file of rejected rows and yield the function that writes one; yield None if `errors` is None.

    If the file can't be written completely, that is printed at the end, because the other rows are recorded.
    """
    if errors is None:
        yield None
        return
    from ...usage_import.error_rows import ErrorFile  # noqa: PLC0415 - loads the domain

    try:
        error_file = ErrorFile(errors, file.dialect, file.columns)
    except OSError as error:
        raise typer.BadParameter(f"Cannot write {errors}: {error.strerror}.", param_hint="'--errors'") from None
    try:
        yield lambda rejected, row: error_file.write(row, _reason(rejected))
    finally:
        error_file.close()
        if error_file.error is not None:
            reason = error_file.error.strerror or error_file.error
            message = f"The error file {errors} is incomplete: {reason}. Import the file again to get it."
            session.print_problem("output_error", message)


def _reason(rejected: "RejectedRow") -> str:
    error = rejected.error
    return f"{rejected.outcome}, {error.code}: {to_cli_text(error.message, error.field)}"
