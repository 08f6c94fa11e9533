"""The screen Usage: totals of a meter in a range, by window, customer and dimension values, as of any time."""

from .....domain.calendar import CalendarWindow
from .....domain.decimals import ZERO
from .....domain.errors import RulesChangeInRange
from ....results import Total
from ....validation import require_choice
from ..charts import Scale, draw_chart
from ..marks import Mark, read_marks
from ..registry import ViewContext, ViewRegistry
from ..responses import Download, Page, Redirect
from ..selection import Selection, parse_selection
from ..usage_data import MAX_CHARTED_EVENTS, chart_slots, group_usages, read_summaries, read_windows, windows_csv

views = ViewRegistry()

CUSTOMERS_PER_PAGE = 50
MAX_MARKED_EVENTS = 2_000
"""Of a total with more events, the cancellations are not marked."""


@views.get("/")
def start(context: ViewContext) -> Redirect:
    """Go to the screen Usage."""
    return Redirect(context.url("/usage"))


@views.get("/usage")
def usage(context: ViewContext) -> Page:
    """Show the usage of a meter: the total, the chart, and the windows or customers."""
    selection = parse_selection(context)
    if selection.meter is None:
        return Page("no_meters.html", {"selection": selection})
    window, scale = _window(context, selection), _scale(context)
    customers = [] if selection.customer else _customer_totals(context, selection)
    total, problem = _total(context, selection)
    is_known = selection.customer is None or _is_known(context, selection, total)
    is_charted = (
        selection.customer is not None or context.params.is_set("chart")
        or (total is not None and total.count <= MAX_CHARTED_EVENTS)
    )  # fmt: skip
    windows = read_windows(context.metering, selection, window) if is_charted and is_known else []
    groups = group_usages(total, selection.group_by) if total is not None else []
    slots, series = chart_slots(windows, groups, context, selection)
    first = context.params.number("first", 0)
    return Page(
        "usage.html",
        {
            "selection": selection, "total": total, "problem": problem, "window": str(window), "scale": scale,
            "is_charted": is_charted, "is_known": is_known, "windows": windows, "groups": groups,
            "slots": slots, "chart": draw_chart(slots, series, scale) if windows else None,
            "customers": customers[first : first + CUSTOMERS_PER_PAGE], "customer_count": len(customers),
            "first": first, "page_size": CUSTOMERS_PER_PAGE,
            "largest": max((abs(one.value) for one in customers), default=ZERO),
            "head": context.metering.catch_up(), "marks": _marks(context, selection, total),
            "similar": [] if is_known else context.metering.customers.search(selection.customer or "", limit=5),
            "suggestions": context.metering.customers.search(limit=20),
            "window_choices": [(str(one), str(one)) for one in CalendarWindow],
        },
    )  # fmt: skip


@views.get("/usage.csv", is_large=True)
def usage_csv(context: ViewContext) -> Download:
    """Download the usage by window, or by customer."""
    selection = parse_selection(context)
    if context.params.get("by") == "customer":
        totals = sorted(_customer_totals(context, selection), key=lambda total: total.customer or "")
    else:
        totals = read_summaries(context.metering, selection, _window(context, selection))
    return Download("usage.csv", lambda file: windows_csv(totals, selection.group_by, file))


def _window(context: ViewContext, selection: Selection) -> CalendarWindow:
    text = context.params.optional("window")
    return selection.window if text is None else require_choice(text, "window", CalendarWindow)


def _scale(context: ViewContext) -> Scale:
    return "log" if context.params.get("scale") == "log" else "linear"


def _customer_totals(context: ViewContext, selection: Selection) -> list[Total]:
    """Return the totals of all customers, the largest first; none if the range has no single quantity."""
    try:
        totals = context.metering.totals(
            selection.event_name, selection.start, selection.end, as_of=selection.as_of, where=selection.where or None
        )
    except RulesChangeInRange:
        return []
    return sorted(totals, key=lambda total: (-abs(total.value), total.customer or ""))


def _total(context: ViewContext, selection: Selection) -> tuple[Total | None, RulesChangeInRange | None]:
    """Return the total with its groups; if the rules change in the range so that there is none, the error."""
    try:
        total = context.metering.total(
            selection.event_name, selection.customer, selection.start, selection.end, as_of=selection.as_of,
            where=selection.where or None, group_by=selection.group_by,
        )  # fmt: skip
    except RulesChangeInRange as error:
        return None, error
    return total, None


def _is_known(context: ViewContext, selection: Selection, total: Total | None) -> bool:
    """Return whether the customer ever had usage on any meter."""
    if total is not None and total.count:
        return True
    return selection.customer in context.metering.customers.search(selection.customer or "", limit=1)


def _marks(context: ViewContext, selection: Selection, total: Total | None) -> list[Mark]:
    corrections: tuple[int, ...] = ()
    if selection.customer is not None and total is not None and total.count <= MAX_MARKED_EVENTS:
        page = context.metering.explain_page(
            selection.event_name, selection.customer, selection.start, selection.end, limit=0,
            max_events=2 * MAX_MARKED_EVENTS,
        )  # fmt: skip
        corrections = () if page is None else page.corrections
    return read_marks(context.metering, selection, corrections)
