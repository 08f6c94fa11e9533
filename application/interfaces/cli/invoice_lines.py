"""The command `invoice-lines` and its output."""

from functools import partial, reduce
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_difference, format_number
from .columns import dimension_keys, dimension_titles, group_cells
from .error_text import to_cli_text
from .option_groups import ClosedPeriodOptions, TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, AsOfOption, LedgerOption, MetersArgument, OnBehalfOfOption
from .periods import require_period
from .session import open_for_query
from .tables import table
from .terminal import format_name, say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from ...invoice_results import InvoiceLine, InvoiceLines
    from .time_ranges import TimeRange

CustomerOption = Annotated[
    str | None, typer.Option(metavar="CUSTOMER", help="Print the lines of this customer. All customers by default.")
]
SettleOption = Annotated[
    str | None,
    typer.Option(metavar="DOCUMENT", help="Record that the adjustments among the lines are settled by this document."),
]


@with_option_groups
def invoice_lines(
    meters: MetersArgument = None,
    *,
    customer: CustomerOption = None,
    time: ClosedPeriodOptions,
    settle: SettleOption = None,
    by: OnBehalfOfOption = None,
    as_of: AsOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Print the lines for the invoices of a period.

    They are the usage of the closed periods that end in the period, and the open adjustments of earlier ones, of all
    meters or those named. With --settle the adjustments are recorded as settled, by the number of the invoices or of
    the invoice run: they are not owed again. To settle later what was invoiced, pass the position of the lines as
    --as-of.
    """
    require_period(time)
    with open_for_query(ledger, output.as_json) as session:
        span, known = session.time_range(time, as_of)
        lines = session.metering.periods.invoice_lines(
            span.start, span.end, meters=meters or None, customer=customer, as_of=known, settle=settle, by=by
        )
        show = print_csv if output.as_csv else partial(show_invoice_lines, span)
        if settle is None:
            session.print(lines, show)
            return
        session.confirm(lines, show)
    _report_settlement(lines)


def _report_settlement(lines: "InvoiceLines") -> None:
    """Print on stderr how many adjustments were settled. The exit status is 1 if any was not."""
    settlement = lines.settlement
    if settlement is None:
        return
    position = format_number(lines.position)
    settled = format_count(settlement.settled, "adjustment")
    say(f"{settled} settled by {format_name(settlement.document)}, as of position {position}", err=True)
    for unsettled in settlement.not_settled:
        error = unsettled.error
        name = f"{unsettled.event_name}, {format_name(unsettled.customer)}"
        say(f"{name}: not settled: {error.code}: {to_cli_text(error.message, error.field)}", err=True)
    if settlement.not_settled:
        raise typer.Exit(1)


def print_csv(lines: "InvoiceLines") -> None:
    """Print invoice lines as CSV in UTF-8, independent of the terminal's encoding."""
    from ...queries.invoice_csv import invoice_lines_csv  # noqa: PLC0415 - loads the domain
    from .csv_output import csv_stdout  # noqa: PLC0415

    file = csv_stdout()
    invoice_lines_csv(lines, file)
    file.flush()


def show_invoice_lines(span: "TimeRange", lines: "InvoiceLines") -> None:
    """Print the lines with a control total for each meter, and the position that they are known at."""
    from ....domain.decimals import EXACT_CONTEXT  # noqa: PLC0415 - loads the domain

    if not lines.lines:
        say(f"No lines: the periods that end in {span.label} have no quantity or are not closed, and no earlier period "
            f"has an open adjustment. Ledger position {format_number(lines.position)}.")  # fmt: skip
        return
    _show_table(span.timezone, lines.lines)
    for event_name in sorted({line.event_name for line in lines.lines}):
        billable = [line.billable for line in lines.lines if line.event_name == event_name]
        total = reduce(EXACT_CONTEXT.add, billable)
        say(f"{format_name(event_name)}: {format_count(len(billable), 'line')}, billable {format_number(total)}")
    say(f"{format_count(len(lines.lines), 'line')}, as of ledger position {format_number(lines.position)}")


def _show_table(timezone: "ZoneInfo", lines: "Sequence[InvoiceLine]") -> None:
    from ..calendar_periods import format_period  # noqa: PLC0415 - loads the domain

    numbers = ("quantity", "billable", "billed before")
    others = ("customer", "meter", "period", "line", *numbers)
    keys = dimension_keys(_Dimensions(line.dimensions or {}) for line in lines)
    columns = (*others[:4], *dimension_titles(keys, others), *others[4:])
    rows = [
        (
            line.customer, line.event_name, format_period(line.start, line.end, timezone),
            "late usage" if line.is_late else str(line.kind), *group_cells(keys, line.dimensions or {}),
            *_numbers(line),
        )
        for line in lines
    ]  # fmt: skip
    hidden = ("billed before",) if all(line.previously_billed is None for line in lines) else ()
    table(columns, rows, right=numbers, whole=("period",), hidden=hidden)


def _numbers(line: "InvoiceLine") -> tuple[str, str, str]:
    form = format_number if line.kind == "usage" else format_difference
    before = "" if line.previously_billed is None else format_number(line.previously_billed)
    return form(line.quantity), form(line.billable), before


class _Dimensions:
    """The dimension values of a line; none if it isn't that of a group."""

    def __init__(self, dimensions: dict[str, str | None]) -> None:
        self.dimensions = dimensions
