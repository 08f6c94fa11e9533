"""The command `import` with the URL of an object store: its options, the loop of `--every`, and its output."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..formatting import format_count, format_number, format_time
from ..stop_signals import stop_on_signals
from .error_text import to_cli_text
from .import_options import DEFAULT_MAX_BYTES, DEFAULT_MAX_ROWS
from .session import Session
from .tables import table
from .terminal import say

if TYPE_CHECKING:
    import threading

    from ...object_import.importer import ObjectImporter
    from ...object_import.results import ObjectImport, ObjectReport
    from ...usage_import.formats import FileOptions
    from ...usage_import.row_mapper import RowFormat

_INTERVAL = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MAX_ROWS_SHOWN = 10


@dataclass(frozen=True)
class ImportRequest:
    """The file to import, how to read it, the file for rejected rows, the requester, and whether to show how."""

    path: Path
    options: "FileOptions"
    row_format: "RowFormat"
    source: str
    errors: Path | None
    by: str | None
    is_shown: bool


@dataclass(frozen=True)
class ObjectOptions:
    """The options that apply only to a URL."""

    every: str | None = None
    retry: bool = False
    max_bytes: int = DEFAULT_MAX_BYTES
    max_rows: int = DEFAULT_MAX_ROWS
    list_objects: bool = False


def require_object_options(options: ObjectOptions, *, is_url: bool, is_file_only: bool) -> None:
    """Raise BadParameter for options that are for a URL, or only for a file."""
    if is_url and is_file_only:
        raise typer.BadParameter("--dry-run and --errors are for a file, not for a URL.")
    if not is_url and options != ObjectOptions(list_objects=options.list_objects):
        raise typer.BadParameter("--every, --retry, --max-bytes and --max-rows are for a URL.")


def import_objects(session: Session, url: str, request: ImportRequest, options: ObjectOptions) -> None:
    """Import new objects, once or again and again; or list what was imported."""
    seconds = None if options.every is None else parse_interval(options.every)
    importer = _open(session, url, request, options)
    if options.list_objects:
        session.print(importer.reports(), _show_reports)
        return
    with stop_on_signals() as stop:
        if seconds is None:
            result = importer.run(retry=options.retry, stop=stop, on_report=_shown_at_once(session))
            session.confirm(result, _show_numbers)
            raise typer.Exit(0 if result.is_complete else 1)
        _import_repeatedly(session, importer, options, seconds, stop)


def parse_interval(text: str) -> int:
    """Return the seconds of an interval such as 15m. Raise BadParameter."""
    interval = _INTERVAL.fullmatch(text)
    if interval is None:
        raise typer.BadParameter("Write an interval like 30s, 15m, 1h or 1d.", param_hint="'--every'")
    return int(interval[1]) * _SECONDS[interval[2]]


def _open(session: Session, url: str, request: ImportRequest, options: ObjectOptions) -> "ObjectImporter":
    from ...object_import.importer import ObjectImporter  # noqa: PLC0415 - loads the domain
    from ...usage_import.formats import FileLimits  # noqa: PLC0415

    return ObjectImporter(
        session.metering, url, row_format=request.row_format, options=request.options, source=request.source,
        limits=FileLimits(options.max_bytes, options.max_rows), by=request.by,
    )  # fmt: skip


def _import_repeatedly(
    session: Session, importer: "ObjectImporter", options: ObjectOptions, seconds: int, stop: "threading.Event"
) -> None:
    """Import new objects until `stop` is set. If the store or the ledger is unavailable, the next run tries again."""
    from ....domain.errors import Unavailable  # noqa: PLC0415 - loads the domain

    is_retry = options.retry
    while not stop.is_set():
        try:
            result = importer.run(retry=is_retry, stop=stop, on_report=_shown_at_once(session))
        except Unavailable as error:
            session.print_problem(error.code, error.message)
        else:
            is_retry = False
            if result.reports or not result.is_locked:
                session.confirm(result, _show_numbers)
        stop.wait(seconds)


def _shown_at_once(session: Session) -> "Callable[[ObjectReport], None] | None":
    """Return the function that prints the report of an object as text; None if the output is JSON."""
    return None if session.as_json else _show_report


def _show_numbers(result: "ObjectImport") -> None:
    if not result.is_locked:
        say(f"Another process imports from {result.url} at the moment. Nothing was done.")
        return
    read = format_count(len(result.reports), "object")
    say(f"{read} read, {format_number(result.imported_before)} read before, {format_number(result.ignored)} ignored")
    if result.incomplete_before:
        incomplete = format_number(result.incomplete_before)
        say(f"Incomplete among those read before: {incomplete}. --list shows why, and --retry reads them again.")
    if not result.is_complete:
        say("Replace the objects that failed; or read them again with --retry, for example after a meter was changed.")


def _show_report(report: "ObjectReport") -> None:
    """Print what became of an object, and the first rows that were not recorded."""
    changed = ", changed since it was read before" if report.is_changed else ""
    say(f"{report.url}: {report.status}, {format_count(report.rows, 'row')}: {_outcomes(report)}{changed}")
    if report.message is not None:
        say(f"  {report.code}: {to_cli_text(report.message, None)}")
    for row in report.rejected_rows[:_MAX_ROWS_SHOWN]:
        say(f"  line {row.line}: {row.outcome}, {row.code}: {to_cli_text(row.message, None)}")
    more = report.conflict + report.rejected - min(len(report.rejected_rows), _MAX_ROWS_SHOWN)
    if more > 0:
        say(f"  and {format_number(more)} more; --list --json has the first 100.")


def _problem(report: "ObjectReport") -> str:
    """Return the error of an object, or that of the first row that was not recorded."""
    if report.message is not None:
        return to_cli_text(report.message, None)
    first = next(iter(report.rejected_rows), None)
    return "" if first is None else f"line {first.line}: {to_cli_text(first.message, None)}"


def _outcomes(report: "ObjectReport") -> str:
    names = ("accepted", "duplicate", "conflict", "rejected")
    counts = ((name, getattr(report, name)) for name in names)
    return ", ".join(f"{format_number(count)} {name}" for name, count in counts if count) or "none recorded"


def _show_reports(reports: "Sequence[ObjectReport]") -> None:
    if not reports:
        say("No objects were read.")
        return
    numbers = ("rows", "accepted", "duplicate", "conflict", "rejected")
    rows = [
        (format_time(report.at.replace(microsecond=0)), report.url, str(report.status),
         *(format_number(getattr(report, name)) for name in numbers), report.run_id or "", _problem(report))
        for report in reports
    ]  # fmt: skip
    columns = ("read at", "object", "status", *numbers, "import", "problem")
    table(columns, rows, right=numbers, whole=("read at", "import"))
