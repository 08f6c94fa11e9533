"""The command `period settle`, and the output of settlements and roll-forwards."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_difference, format_number, format_requester
from .option_groups import ClosedPeriodOptions, with_option_groups
from .options import DEFAULT_LEDGER, JsonOption, LedgerOption, MeterArgument, OnBehalfOfOption
from .period_runs import app
from .periods import RequiredCustomerArgument, require_period
from .session import open_for_query
from .terminal import format_name, say

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from ....domain.closed_period import ClosedPeriod

DocumentOption = Annotated[
    str, typer.Option(metavar="NUMBER", help="The number of the credit note or invoice.", show_default=False)
]

SettledAsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME|POSITION",
        help="Settle what was owed then: at an ISO datetime, or at a position of the ledger.",
    ),
]


@app.command()
@with_option_groups
def settle(
    meter: MeterArgument,
    customer: RequiredCustomerArgument,
    *,
    document: DocumentOption,
    by: OnBehalfOfOption = None,
    time: ClosedPeriodOptions,
    as_of: SettledAsOfOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Record that an adjustment is settled.

    The document is a credit note or an invoice. If events may have been recorded since it was made, pass the position
    at which it was: what changes afterwards is owed again. The command 'tallybook invoice-lines' can settle the
    adjustments of all customers.
    """
    require_period(time)
    with open_for_query(ledger, as_json) as session:
        span, known = session.time_range(time, as_of)
        closed = session.metering.periods.settle(
            meter, customer, span.start, span.end, document=document, as_of=known, by=by
        )
        session.confirm(closed, partial(show_settled, span.timezone, document))


def show_settled(timezone: "ZoneInfo", document: str, period: "ClosedPeriod") -> None:
    """Print the settlement of a period by a document, and what was invoiced altogether."""
    from ..calendar_periods import format_period  # noqa: PLC0415 - loads the domain

    settlement = next(one for one in period.settlements if one.document == document)
    name = f"{period.event_name}, {format_name(period.customer)}, {format_period(period.start, period.end, timezone)}"
    author = format_requester(None, settlement.by, settlement.on_behalf_of)
    say(f"{name}: {format_difference(settlement.difference)} is settled by {format_name(document)}{author}, "
        f"as of position {format_number(settlement.position)}")  # fmt: skip
    say(f"invoiced: {format_number(settlement.quantity)}, billable {format_number(settlement.billable)}")
