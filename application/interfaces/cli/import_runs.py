"""Options of the command `import` that list imports, undo one, or show what a file would add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_number, format_time, format_window_start
from .bulk_cancellations import carry_out, require_approval
from .bulk_cancellations_output import show_outcome
from .import_output import show_first_rows, show_outcomes, show_rejected_rows
from .session import open_ledger
from .tables import table
from .terminal import say

if TYPE_CHECKING:
    from ...cancellation_views import BulkCancellationView, CancellationPreviewRow
    from ...import_views import ImportRunView
    from ...usage_import.results import ImportSummary
    from .option_groups import TableOptions

ListOption = Annotated[bool, typer.Option("--list", help="List the imports, oldest first.")]
UndoOption = Annotated[
    str | None,
    typer.Option("--undo", metavar="RUN", help="Show what this import recorded, and cancel all of it with --yes."),
]
ReasonOption = Annotated[str | None, typer.Option(metavar="TEXT", help="The reason of --undo, stored in the ledger.")]
YesOption = Annotated[bool, typer.Option("--yes", help="With --undo: cancel the meter events of the import.")]
MAX_ROWS_SHOWN = 50


@dataclass(frozen=True)
class UndoOptions:
    """The options of `--undo`."""

    reason: str | None
    by: str | None
    yes: bool
    any_age: bool
    timezone: str


@dataclass(frozen=True)
class DryRunResult:
    """The outcomes of the rows of a file, and what the accepted ones add, by meter, customer and month."""

    summary: "ImportSummary"
    usage: "Mapping[str, Sequence[CancellationPreviewRow]]"


def undo_import(run_id: str, options: UndoOptions, ledger: str, output: "TableOptions") -> None:
    """Print what an import recorded and, if approved, cancel it."""
    require_approval(yes=options.yes, reason=options.reason)
    with open_ledger(ledger, output.as_json, lift=["cancel_window"] if options.any_age else []) as session:
        imports = session.metering.imports
        previews = imports.preview_undo(run_id, timezone=options.timezone)

        def cancel(progress: "Callable[[BulkCancellationView], None]") -> "Sequence[BulkCancellationView]":
            return imports.undo(
                run_id,
                reason=options.reason or "",
                by=options.by,
                digests=[preview.digest for preview in previews],
                progress=progress,
            )

        show_text = partial(show_outcome, options.timezone, MAX_ROWS_SHOWN)
        show = output.show(show_text, lambda tables: tables.cancellation_outcome)
        carry_out(session, previews, cancel if options.yes else None, show)


def show_all_imports(ledger: str, output: "TableOptions") -> None:
    """Print all imports."""
    with open_ledger(ledger, output.as_json) as session:
        runs = session.metering.imports.list()
        session.print(runs, output.show(_show_imports, lambda tables: tables.import_runs))


def show_dry_run(timezone: str, result: DryRunResult) -> None:
    """Print the number of rows by outcome, the first rows, those that are rejected, and what the others add."""
    from ....domain.calendar import get_timezone  # noqa: PLC0415 - loads the domain

    summary, zone = result.summary, get_timezone(timezone)
    say(f"{summary.file}: {format_count(summary.rows, 'row')}, of which nothing was recorded")
    show_outcomes(summary)
    show_first_rows(summary.first_rows)
    show_rejected_rows(summary)
    numbers = ("events", "quantity")
    rows = [
        (event_name, row.customer, format_window_start(row.start, "month", zone), format_number(row.count),
         format_number(row.difference.copy_negate()))
        for event_name, usage in result.usage.items()
        for row in usage
    ]  # fmt: skip
    if rows:
        columns = ("meter", "customer", f"month ({timezone})", *numbers)
        table(columns, rows[:MAX_ROWS_SHOWN], right=numbers)
    if len(rows) > MAX_ROWS_SHOWN:
        say(f"and {format_count(len(rows) - MAX_ROWS_SHOWN, 'more row', 'more rows')}; --json has all of them.")


def _show_imports(imports: "Sequence[ImportRunView]") -> None:
    if not imports:
        say("No imports.")
        return
    numbers = ("recorded", "rows")
    rows = [
        (run.run_id, format_time(run.started_at.replace(microsecond=0)), run.file, ", ".join(run.event_names),
         format_number(run.recorded), format_number(run.rows), run.by or "",
         "" if run.finished_at is not None else "not finished")
        for run in imports
    ]  # fmt: skip
    table(
        ("import", "started at", "file", "meters", *numbers, "by", "state"), rows, right=numbers,
        whole=("import", "started at"),
    )  # fmt: skip
