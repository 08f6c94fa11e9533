"""A period of one customer: preview and close it, see what is owed on it and why, settle it, or reopen it."""

from .....domain.access_key import Scope
from .....domain.errors import RulesChangeInRange
from ....invoice_results import PeriodPreview
from ...http.errors import invalid_parameter
from ..registry import ViewContext, ViewRegistry
from ..responses import Page, Redirect
from ..selection import Selection, parse_selection

views = ViewRegistry()
MAX_EVENTS = 200


@views.get("/periods/customer")
def customer_period(context: ViewContext) -> Page:
    """Show the closings of a period, what is owed, and what can be done."""
    selection, customer = require_customer(context)
    metering, event_name = context.metering, selection.event_name
    start, end, as_of = selection.start, selection.end, selection.as_of
    closings = metering.periods.list(event_name, customer, start=start, end=end, as_of=as_of, reopened=True)
    exact = [one for one in closings if (one.start, one.end) == (start, end)]
    adjustments = metering.periods.adjustments(
        event_name, customer, start=start, end=end, as_of=as_of, settled=True, max_events=MAX_EVENTS
    )
    owed = next((one for one in adjustments if (one.period.start, one.period.end) == (start, end)), None)
    preview, problem = _preview(context, selection, customer)
    return Page(
        "customer_period.html",
        {
            "selection": selection, "closings": closings, "owed": owed, "preview": preview, "problem": problem,
            "closed": next((one for one in exact if one.is_closed), None),
            "others": [one for one in closings if one not in exact],
            "has_ended": selection.end <= context.user.ledger.now(),
        },
    )  # fmt: skip


@views.post("/periods/customer/close", Scope.CLOSE)
def close(context: ViewContext) -> Redirect:
    """Close the period."""
    selection, customer = require_customer(context)
    context.metering.periods.close(selection.event_name, customer, selection.start, selection.end, by=context.user.by)
    return _back(context, selection, "closed")


@views.post("/periods/customer/reopen", Scope.CLOSE)
def reopen(context: ViewContext) -> Redirect:
    """Reopen the closed period."""
    selection, customer = require_customer(context)
    context.metering.periods.reopen(
        selection.event_name, customer, selection.start, selection.end, reason=context.params.get("reason"),
        by=context.user.by, withdraw_settlements=context.params.is_set("withdraw_settlements"),
    )  # fmt: skip
    return _back(context, selection, "reopened")


@views.post("/periods/customer/settle", Scope.CLOSE)
def settle(context: ViewContext) -> Redirect:
    """Record that a document has what is owed, as of the position that the page has shown."""
    selection, customer = require_customer(context)
    context.metering.periods.settle(
        selection.event_name, customer, selection.start, selection.end, document=context.params.get("document"),
        as_of=context.params.number("position", 0), by=context.user.by,
    )  # fmt: skip
    return _back(context, selection, "settled")


def _preview(
    context: ViewContext, selection: Selection, customer: str
) -> tuple[PeriodPreview | None, RulesChangeInRange | None]:
    try:
        preview = context.metering.periods.preview(selection.event_name, customer, selection.start, selection.end)
    except RulesChangeInRange as error:
        return None, error
    return preview, None


def require_customer(context: ViewContext) -> tuple[Selection, str]:
    """Return what a page of one customer selects, and the customer. Raises ApiError if none is named."""
    selection = parse_selection(context)
    if selection.customer is None:
        raise invalid_parameter("customer", "A closed period belongs to a customer: choose one on the page Periods.")
    return selection, selection.customer


def _back(context: ViewContext, selection: Selection, done: str) -> Redirect:
    return Redirect(context.url("/periods/customer", **selection.params, done=done))
