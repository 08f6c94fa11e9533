"""The output of the command `import`."""

from typing import TYPE_CHECKING

from ..formatting import format_count, format_number, format_time
from .error_text import to_cli_text
from .tables import fields, table
from .terminal import format_name, say

if TYPE_CHECKING:
    from ...usage_import.results import ImportSummary, PreviewRow

OUTCOMES = ("accepted", "duplicate", "conflict", "rejected")


def show_import(summary: "ImportSummary") -> None:
    """Print the number of rows by outcome, and the first rows that were not recorded."""
    rate = f"{summary.rows / summary.seconds:,.0f} rows/s" if summary.seconds else "no time"
    say(f"{summary.file}: {format_number(summary.rows)} rows in {summary.seconds:.1f} s ({rate})")
    show_outcomes(summary)
    if summary.run_id is not None:
        say(f"import {summary.run_id}")
    show_rejected_rows(summary)


def show_outcomes(summary: "ImportSummary") -> None:
    """Print the number of rows by outcome, and what duplicates of rows without an identifier mean."""
    fields((outcome, f"{format_number(getattr(summary, outcome)):>8}") for outcome in OUTCOMES)
    if summary.generated_duplicates:
        rows = format_count(
            summary.generated_duplicates, "row without an identifier is", "rows without identifiers are"
        )
        say(f"{rows} equal to rows that were imported before. If they are other usage, import with another --source.")
    if summary.cancelled_duplicates:
        rows = format_count(summary.cancelled_duplicates, "of them was", "of them were")
        say(f"{rows} cancelled since, and not recorded again. To record them again, import with another --source.")


def show_rejected_rows(summary: "ImportSummary") -> None:
    """Print the first rows that were not recorded, and what to do about them."""
    for row in summary.first_rejected:
        message = to_cli_text(row.error.message, row.error.field)
        say(f"line {row.line}: {row.outcome}, {row.error.code}: {message}")
    more = summary.not_recorded - len(summary.first_rejected)
    if more > 0:
        say(f"and {format_number(more)} more; --errors FILE writes all of them to a file, to correct and import again.")


def show_first_rows(rows: "list[PreviewRow]") -> None:
    """Print the first rows of a file as they would be recorded."""
    cells = [
        (
            str(row.line),
            format_name(row.event_name),
            format_time(row.timestamp),
            format_name(str(row.identifier)),
            ", ".join(f"{format_name(key)}={format_name(str(value))}" for key, value in row.payload.items()),
        )
        for row in rows
    ]
    if cells:
        table(("line", "meter", "time", "identifier", "payload"), cells, right=("line",), whole=("time",))
