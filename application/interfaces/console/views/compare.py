"""The screen Compare: a figure as of two moments, and the events between them."""

from .....domain.errors import RulesChangeInRange
from ..marks import read_marks
from ..registry import ViewContext, ViewRegistry
from ..responses import Page
from ..selection import parse_as_of, parse_selection

views = ViewRegistry()
EVENTS_PER_PAGE = 100


@views.get("/compare", is_large=True)
def compare(context: ViewContext) -> Page:
    """Show the change of a total between two points of the ledger."""
    selection = parse_selection(context)
    if selection.meter is None:
        return Page("no_meters.html", {"selection": selection})
    since, first = parse_as_of(context.params, "since", selection.timezone), context.params.number("first", 0)
    change, problem = None, None
    if since is not None:
        try:
            change = context.metering.compare(
                selection.event_name, selection.customer, selection.start, selection.end, since=since,
                as_of=selection.as_of, where=selection.where or None, offset=first, limit=EVENTS_PER_PAGE,
            )  # fmt: skip
        except RulesChangeInRange as error:
            problem = error.message
    return Page(
        "compare.html",
        {
            "selection": selection, "since": context.params.get("since"), "change": change, "problem": problem,
            "first": first, "page_size": EVENTS_PER_PAGE, "head": context.metering.catch_up(),
            "marks": read_marks(context.metering, selection),
            "suggestions": context.metering.customers.search(limit=20),
        },
    )  # fmt: skip
