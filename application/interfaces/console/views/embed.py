"""The page of one customer that a host application may embed: its usage, and every event behind it, read only."""

from dataclasses import replace

from .....domain.errors import RulesChangeInRange
from ....results import ExplanationPage, Total
from ...http.errors import ApiError, invalid_parameter
from ...http.meter_visibility import meters_of_customers
from ..charts import draw_chart
from ..registry import ViewContext, ViewRegistry
from ..responses import Page
from ..selection import Selection, parse_selection
from ..usage_data import chart_slots, group_usages, read_windows

views = ViewRegistry()
EVENTS_PER_PAGE, MAX_EVENTS = 50, 10_000


@views.get_embedded("/embed")
def embedded_usage(context: ViewContext) -> Page:
    """Show the usage of the customer, by window."""
    selection = _selection(context)
    total, problem = _total(context, selection)
    windows = [] if total is None else read_windows(context.metering, selection, selection.window)
    groups = [] if total is None else group_usages(total, selection.group_by)
    slots, series = chart_slots(windows, groups, context, selection, _params(context, selection), "/embed/why")
    return Page(
        "embed.html",
        {
            "selection": selection, "params": _params(context, selection), "total": total, "problem": problem,
            "windows": windows, "groups": groups, "chart": draw_chart(slots, series) if windows else None,
        },
    )  # fmt: skip


@views.get_embedded("/embed/why")
def embedded_explanation(context: ViewContext) -> Page:
    """Show the events behind the usage of the customer."""
    selection, first = _selection(context), context.params.number("first", 0)
    page: ExplanationPage | None = None
    problem = None
    try:
        page = context.metering.explain_page(
            selection.event_name, context.user.customer, selection.start, selection.end, offset=first,
            limit=EVENTS_PER_PAGE, max_events=MAX_EVENTS,
        )  # fmt: skip
        if page is None:
            raise invalid_parameter("period", "These are too many events for a page. Choose a shorter period.")
    except RulesChangeInRange as error:
        problem = error.message
    return Page(
        "embed_why.html",
        {
            "selection": selection, "params": _params(context, selection), "page": page, "problem": problem,
            "first": first, "page_size": EVENTS_PER_PAGE,
        },
    )  # fmt: skip


def _selection(context: ViewContext) -> Selection:
    """Return what the page selects: of the token's customer, as it is now, and of meters that have this customer."""
    if context.user.customer is None:
        raise ApiError(403, "This page needs an embed token.")
    selection = parse_selection(context)
    meters = meters_of_customers(context.user.ledger, selection.meters)
    named = context.params.optional("meter")
    meter = next((meter for meter in meters if named in (None, meter.event_name)), None)
    if meter is None:
        raise ApiError(404, "There is no such meter.")
    group_by = [key for key in selection.group_by if key in (*meter.dimension_keys, *meter.optional_dimension_keys)]
    return replace(
        selection, meters=meters, meter=meter, customer=context.user.customer, as_of=None, as_of_text=None, where={},
        group_by=group_by,
    )  # fmt: skip


def _params(context: ViewContext, selection: Selection) -> dict[str, object]:
    """Return the parameters of links: the token instead of the customer."""
    return {**selection.with_params(customer=None), "token": context.params.get("token")}


def _total(context: ViewContext, selection: Selection) -> tuple[Total | None, str | None]:
    try:
        total = context.metering.total(
            selection.event_name, context.user.customer, selection.start, selection.end, group_by=selection.group_by
        )
    except RulesChangeInRange as error:
        return None, error.message
    return total, None
