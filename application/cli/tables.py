"""Answers to questions as people read them: numbers at the right, times by the clocks that were asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .bars import bars
from .terminal import say, table, without
from .wording import counted, number, opening, verdict, when

if TYPE_CHECKING:
    from ..results import MeterEventView, Total
    from .periods import Span


def show_total(event_name: str, formula: str | None, span: "Span", total: "Total") -> None:
    """All the figures of one total, with the formula of its value where that is known."""
    value = "value" if formula is None else f"value ({formula})"
    figures = {value: total.value, "billable": total.billable, "sum": total.sum, "count": total.count,
               "last": total.last}  # fmt: skip
    width = max(len(number(figure)) for figure in figures.values())
    say(heading(event_name, total.customer, span))
    for name, figure in figures.items():
        say(f"  {name:<16}{number(figure):>{width}}")


def show_totals(event_name: str, span: "Span", totals: Sequence["Total"]) -> None:
    """One line for each customer."""
    say(heading(event_name, None, span))
    if not totals:
        say("No usage.")
        return
    rows = [
        (one.customer or "", number(one.value), number(one.billable), number(one.count), number(one.last))
        for one in totals
    ]
    table(("customer", "value", "billable", "count", "last"), rows, right=("value", "billable", "count", "last"))
    say(counted(len(totals), "customer"))


def show_usage(event_name: str, customer: str | None, window: str, span: "Span", totals: Sequence["Total"]) -> None:
    """One line and one bar for each window; a mark where windows without usage lie between."""
    say(heading(event_name, customer, span))
    if not totals:
        say("No usage.")
        return
    rows: list[tuple[str, str, str, str]] = []
    for index, (one, bar) in enumerate(zip(totals, bars([one.value for one in totals]), strict=True)):
        if index and totals[index - 1].end < one.start:
            rows.append(("...", "", "", ""))
        rows.append((opening(one.start, window, span.timezone), number(one.value), number(one.count), bar))
    table((window, "value", "count", ""), rows, right=("value", "count"))


def show_events(
    event_name: str, customer: str | None, limit: int, span: "Span", events: Sequence["MeterEventView"]
) -> None:
    """One line for each meter event, and how to ask for more."""
    say(heading(event_name, customer, span))
    if not events:
        say("No meter events.")
        return
    _events(events, span)
    if len(events) == limit:
        say(f"For the next page: --starting-after {events[-1].identifier}")


def _events(events: Sequence["MeterEventView"], span: "Span") -> None:
    columns = ("occurred at", "identifier", "customer", "value", "verdict")
    rows = [
        (when(one.occurred_at, span.timezone), one.identifier, one.customer, number(one.value), verdict(one))
        for one in events
    ]
    if len({one.customer for one in events}) == 1:
        columns, rows = without(2, columns), [without(2, row) for row in rows]
    table(columns, rows, right=("value",))


def heading(event_name: str, customer: str | None, span: "Span") -> str:
    """What is asked about: the meter, whose usage, and when."""
    return f"{event_name}, {'all customers' if customer is None else customer}, {span.shown}"
