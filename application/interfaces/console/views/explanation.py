"""The screen Why this figure: every meter event behind a total, with its verdict and contribution."""

from typing import TextIO

from .....domain.closed_period import ClosedPeriod
from .....domain.errors import RulesChangeInRange
from ....queries.explanation_csv import explanation_csv
from ....results import ExplanationPage, Total, Verdict
from ..marks import read_marks
from ..registry import ViewContext, ViewRegistry
from ..responses import Download, Page
from ..selection import Selection, parse_selection
from ..usage_data import MAX_CHARTED_EVENTS, WindowUsage, read_windows

views = ViewRegistry()

EVENTS_PER_PAGE = 100
MAX_EVENTS, MAX_ALL_EVENTS = 2_500, 50_000
"""Of a total with more events, the page shows its windows first. All events are shown up to the second limit."""
NOT_COUNTED = (Verdict.CANCELLED, Verdict.SUPERSEDED, Verdict.FILTERED)


@views.get("/why")
def why(context: ViewContext) -> Page:
    """Explain a total: its events, or its windows if they are too many for a page."""
    selection = parse_selection(context)
    if selection.meter is None:
        return Page("no_meters.html", {"selection": selection})
    show, is_closed = context.params.get("show", "all"), context.params.is_set("closed")
    first = context.params.number("first", 0)
    values: dict[str, object] = {
        "selection": selection, "show": show, "is_closed": is_closed, "first": first, "page_size": EVENTS_PER_PAGE,
        "closing": _closing(context, selection), "suggestions": context.metering.customers.search(limit=20),
        "head": context.metering.catch_up(), "problem": None, "page": None, "windows": [], "is_listed": True,
        "total": None, "marks": [],
        "is_everything": context.params.is_set("all"), "max_events": MAX_ALL_EVENTS,
    }  # fmt: skip
    max_events = MAX_ALL_EVENTS if context.params.is_set("all") or show == "not_counted" else MAX_EVENTS
    try:
        total = None if selection.customer else _total(context, selection)
        is_page = total is None or total.count <= max_events
        page = _page(context, selection, show, first, max_events, is_closed=is_closed) if is_page else None
    except RulesChangeInRange as error:
        return Page("why.html", {**values, "problem": error, "windows": _windows(context, selection)})
    if page is None:
        total = total or _total(context, selection)
        is_listed = (
            selection.customer is not None or total.count <= MAX_CHARTED_EVENTS or context.params.is_set("windows")
        )
        windows = _windows(context, selection) if is_listed else []
        return Page("why.html", {**values, "total": total, "windows": windows, "is_listed": is_listed})
    marks = read_marks(context.metering, selection, page.corrections)
    return Page("why.html", {**values, "page": page, "total": page.total, "marks": marks})


@views.get("/why.csv", is_large=True)
def why_csv(context: ViewContext) -> Download:
    """Download all events behind a total."""
    selection, is_closed = parse_selection(context), context.params.is_set("closed")

    def write(file: TextIO) -> None:
        with context.metering.open_explanation(
            selection.event_name, selection.customer, selection.start, selection.end, as_of=selection.as_of,
            where=selection.where or None, closed=is_closed,
        ) as explanation:  # fmt: skip
            explanation_csv(explanation, file)

    return Download("explanation.csv", write)


def _total(context: ViewContext, selection: Selection) -> Total:
    return context.metering.total(
        selection.event_name, selection.customer, selection.start, selection.end, as_of=selection.as_of,
        where=selection.where or None,
    )  # fmt: skip


def _page(
    context: ViewContext, selection: Selection, show: str, first: int, max_events: int, *, is_closed: bool
) -> ExplanationPage | None:
    verdicts = {"counted": (Verdict.COUNTED,), "not_counted": NOT_COUNTED}.get(show)
    return context.metering.explain_page(
        selection.event_name, selection.customer, selection.start, selection.end, as_of=selection.as_of,
        where=selection.where or None, closed=is_closed, verdicts=verdicts, offset=first, limit=EVENTS_PER_PAGE,
        max_events=max_events,
    )  # fmt: skip


def _windows(context: ViewContext, selection: Selection) -> list[WindowUsage]:
    """Return the windows with usage, each of which leads to its own explanation."""
    windows = read_windows(context.metering, selection, selection.window)
    return [window for window in windows if window.total is not None]


def _closing(context: ViewContext, selection: Selection) -> ClosedPeriod | None:
    """Return the closed period of exactly the selected range, if there is one."""
    if selection.customer is None:
        return None
    closed = context.metering.periods.list(
        selection.event_name, selection.customer, start=selection.start, end=selection.end, as_of=selection.as_of
    )
    return next((one for one in closed if (one.start, one.end) == (selection.start, selection.end)), None)
