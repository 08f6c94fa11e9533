"""The screen Periods: what is closed, what is not, and what is owed; close all customers, and invoice lines."""

from decimal import Decimal
from typing import NamedTuple

from .....domain.access_key import Scope
from .....domain.errors import RulesChangeInRange
from ....billing_results import MeterPeriodStatus, PeriodStatus
from ....queries.invoice_csv import invoice_lines_csv
from ....results import Total
from ..registry import ViewContext, ViewRegistry
from ..responses import Download, Page, Redirect
from ..selection import Selection, parse_selection
from ..tasks import task_of_page

views = ViewRegistry()

MAX_UNBILLED, MAX_ADJUSTMENTS = 100, 100
MAX_INLINE_HEAD = 200_000
"""In a longer ledger, what has to be read of all usage is loaded after the page."""


class OpenAdjustmentRow(NamedTuple):
    """What is owed on a closed period."""

    event_name: str
    customer: str
    params: dict[str, object]
    invoiced: Decimal
    now: Decimal
    difference: Decimal
    is_late: bool


@views.get("/periods")
def periods(context: ViewContext) -> Page | Redirect:
    """Show the state of a period on all meters, and the billing runs; of the last month that has ended by default."""
    selection, metering = parse_selection(context), context.metering
    if not (context.params.is_set("period") or context.params.is_set("from")):
        return Redirect(context.url("/periods", **(selection.adjoining(-1) or {})))
    if selection.meter is None:
        return Page("no_meters.html", {"selection": selection})
    is_inline = metering.catch_up() <= MAX_INLINE_HEAD or context.params.is_set("details")
    runs = [run for run in metering.periods.runs() if run.start < selection.end and selection.start < run.end]
    return Page(
        "periods.html",
        {
            "selection": selection, "runs": runs[::-1], "is_inline": is_inline,
            "status": _status(context, selection) if is_inline else None,
            "adjustments": _adjustments(context, selection) if is_inline else None,
            "has_ended": selection.end <= context.user.ledger.now(), "task": task_of_page(context),
        },
    )  # fmt: skip


@views.get("/periods/details", is_large=True)
def details(context: ViewContext) -> Page:
    """Show what is not billed, and what is owed: the part of the page that takes long in a large ledger."""
    selection = parse_selection(context)
    values = {"status": _status(context, selection), "adjustments": _adjustments(context, selection)}
    return Page("periods_details.html", {"selection": selection, **values})


@views.get("/periods/invoice-lines.csv", is_large=True)
def invoice_lines(context: ViewContext) -> Download:
    """Download the invoice lines of a period."""
    selection = parse_selection(context)
    lines = context.metering.periods.invoice_lines(selection.start, selection.end, as_of=selection.as_of)
    return Download(f"invoice-lines-{selection.start:%Y-%m-%d}.csv", lambda file: invoice_lines_csv(lines, file))


@views.get("/periods/close", Scope.CLOSE, is_large=True)
def preview_run(context: ViewContext) -> Page:
    """Show what closing a period for all customers would close."""
    selection = parse_selection(context)
    meters = _run_meters(context)
    status = context.metering.periods.status(selection.start, selection.end, meters=meters, limit=0)
    totals = {meter.event_name: _control_total(context, selection, meter, status.position) for meter in status.meters}
    return Page("close_periods.html", {"selection": selection, "status": status, "totals": totals, "meters": meters})


@views.post("/periods/close", Scope.CLOSE)
def close_all(context: ViewContext) -> Redirect:
    """Close a period for all customers of some meters, of all if none is named. An interrupted run is resumed."""
    selection = parse_selection(context)
    task = context.metering.tasks.run_billing(
        selection.start, selection.end, meters=_run_meters(context), timezone=selection.timezone.key, by=context.user.by
    )
    return Redirect(context.url("/periods", **selection.with_params(meter=None), task=task.id))


def _control_total(
    context: ViewContext, selection: Selection, meter: MeterPeriodStatus, position: int
) -> Total | RulesChangeInRange:
    """Return the usage that a run controls its closings with, or why it could close no customer: the rules change."""
    try:
        return context.metering.total(meter.event_name, None, selection.start, selection.end, as_of=position)
    except RulesChangeInRange as error:
        return error


def _run_meters(context: ViewContext) -> list[str] | None:
    return list(context.params.all("of_meter")) or None


def _status(context: ViewContext, selection: Selection) -> PeriodStatus:
    return context.metering.periods.status(selection.start, selection.end, as_of=selection.as_of, limit=MAX_UNBILLED)


def _adjustments(context: ViewContext, selection: Selection) -> list[OpenAdjustmentRow]:
    """Return what is owed on the closed periods that overlap the range, of all meters."""
    rows: list[OpenAdjustmentRow] = []
    for meter in selection.meters:
        for adjustment in context.metering.periods.adjustments(
            meter.event_name, start=selection.start, end=selection.end, as_of=selection.as_of, max_events=0
        ):
            if adjustment.is_open and len(rows) < MAX_ADJUSTMENTS:
                period = adjustment.period
                params = selection.for_range(period.start, period.end)
                rows.append(
                    OpenAdjustmentRow(
                        meter.event_name, period.customer,
                        {**params, "meter": meter.event_name, "customer": period.customer},
                        period.invoiced.quantity, adjustment.quantity, adjustment.difference, adjustment.is_late,
                    )
                )  # fmt: skip
    return rows
