"""Answers to questions as people read them: numbers at the right, times by the clocks that were asked for."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from .bars import bars
from .terminal import say, table
from .wording import because, counted_by, number, when

if TYPE_CHECKING:
    from ..results import Explanation, MeterEventView, Total
    from .periods import Span


def show_total(event_name: str, formula: str, span: "Span", total: "Total") -> None:
    """All the figures of one total."""
    figures = {f"value ({formula})": total.value, "billable": total.billable, "sum": total.sum, "count": total.count,
               "last": total.last}  # fmt: skip
    width = max(len(number(figure)) for figure in figures.values())
    say(_heading(event_name, total.customer, span))
    for name, figure in figures.items():
        say(f"  {name:<16}{number(figure):>{width}}")


def show_totals(event_name: str, span: "Span", totals: Sequence["Total"]) -> None:
    """One line for each customer."""
    say(_heading(event_name, None, span))
    if not totals:
        say("No usage.")
        return
    rows = [
        (one.customer or "", number(one.value), number(one.billable), number(one.count), number(one.last))
        for one in totals
    ]
    table(("customer", "value", "billable", "count", "last"), rows, right=("value", "billable", "count", "last"))
    say(f"{number(len(totals))} customers" if len(totals) > 1 else "1 customer")


def show_usage(event_name: str, customer: str | None, window: str, span: "Span", totals: Sequence["Total"]) -> None:
    """One line and one bar for each window; a mark where windows without usage lie between."""
    say(_heading(event_name, customer, span))
    if not totals:
        say("No usage.")
        return
    rows: list[tuple[str, str, str, str]] = []
    for index, (one, bar) in enumerate(zip(totals, bars([one.value for one in totals]), strict=True)):
        if index and totals[index - 1].end < one.start:
            rows.append(("...", "", "", ""))
        rows.append((_opening(one.start, window, span.timezone), number(one.value), number(one.count), bar))
    table((window, "value", "count", ""), rows, right=("value", "count"))


def show_events(
    event_name: str, customer: str | None, limit: int, span: "Span", events: Sequence["MeterEventView"]
) -> None:
    """One line for each meter event, and how to ask for more."""
    say(_heading(event_name, customer, span))
    if not events:
        say("No meter events.")
        return
    _events(events, span)
    if len(events) == limit:
        say(f"For the next page: --starting-after {events[-1].identifier}")


def show_explanation(event_name: str, span: "Span", explanation: "Explanation") -> None:
    """The meter events behind a total, and what they add up to."""
    total = explanation.total
    say(_heading(event_name, total.customer, span))
    if explanation.events:
        _events(explanation.events, span)
    counted = sum(one.verdict == "counted" for one in explanation.events)
    say(
        f"{number(counted)} of {number(len(explanation.events))} count: "
        f"{counted_by(explanation.formula, explanation.event_time_window)} = {number(total.value)}"
        f"   (rules {explanation.revision}, ledger position {explanation.position})"
    )


def _events(events: Sequence["MeterEventView"], span: "Span") -> None:
    rows = [
        (when(one.occurred_at, span.timezone), one.identifier, one.customer, number(one.value), _verdict(one))
        for one in events
    ]
    if len({one.customer for one in events}) > 1:
        table(("occurred at", "identifier", "customer", "value", "verdict"), rows, right=("value",))
    else:
        table(
            ("occurred at", "identifier", "value", "verdict"),
            [row[:2] + row[3:] for row in rows],
            right=("value",),
        )


def _verdict(event: "MeterEventView") -> str:
    if event.cancelled_at is not None:
        return f"cancelled {when(event.cancelled_at.replace(microsecond=0))}{because(event.reason, event.by)}"
    return f"overwritten by {event.overwritten_by}" if event.overwritten_by else str(event.verdict)


def _heading(event_name: str, customer: str | None, span: "Span") -> str:
    return f"{event_name}, {'all customers' if customer is None else customer}, {span.shown}"


def _opening(start: datetime, window: str, timezone: tzinfo) -> str:
    """When a window begins, as exactly as its length needs; with its offset, as an hour can come twice in a night."""
    shape = {"month": "%Y-%m", "day": "%Y-%m-%d"}.get(window, "%Y-%m-%d %H:%M %Z")
    return start.astimezone(timezone).strftime(shape)
