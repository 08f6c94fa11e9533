"""Closed periods as people read them: what was frozen, and what is owed since."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .terminal import say, table, without
from .wording import because, counted, number, signed, verdict, when

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from ...domain.closed_period import ClosedPeriod
    from ..results import AdjustingEvent, Adjustment
    from .closing_run import Closing, ClosingRun
    from .periods import Span


def show_closed(timezone: "ZoneInfo", closing: "Closing") -> None:
    """The figures that are frozen, line by line."""
    period = closing.period
    is_closed = "was closed before" if closing.was_closed else "is closed"
    say(f"{period.event_name}, {period.customer}, {_name(period, timezone)} {is_closed}")
    figures = {"quantity": period.quantity, "billable": period.billable, "events": period.count}
    width = max(len(number(figure)) for figure in figures.values())
    for name, figure in figures.items():
        say(f"  {name:<16}{number(figure):>{width}}")
    say(f"  {'closed at':<16}{when(period.closed_at)}")
    say(f"  {'counted by':<16}revision {period.revision} of the rules, up to position {number(period.position)}")
    say(f"  {'SHA-256':<16}{period.digest}")


def show_closings(event_name: str, span: "Span", run: "ClosingRun") -> None:
    """One line for each customer whose period is closed, and one for each that was refused."""
    say(f"{event_name}, all customers, {span.shown}")
    if not run.closed and not run.refused:
        say("No usage, so nothing to close.")
        return
    if run.closed:
        rows = [
            (one.period.customer, number(one.period.quantity), number(one.period.billable), number(one.period.count),
             "before" if one.was_closed else "now")
            for one in run.closed
        ]  # fmt: skip
        table(("customer", "quantity", "billable", "events", "closed"), rows, right=("quantity", "billable", "events"))
    before = sum(one.was_closed for one in run.closed)
    refused = f", {number(len(run.refused))} refused" if run.refused else ""
    say(f"{counted(len(run.closed) - before, 'period')} closed now, {number(before)} before{refused}")
    for one in run.refused:
        say(f"{one.customer}: {one.error.code}: {one.error.message}")


def show_periods(timezone: "ZoneInfo", periods: Sequence["ClosedPeriod"]) -> None:
    """One line for each closing."""
    if not periods:
        say("No closed periods.")
        return
    rows = [
        (one.customer, _name(one, timezone), number(one.quantity), number(one.billable), number(one.count),
         when(one.closed_at.replace(microsecond=0)), _reopened(one))
        for one in periods
    ]  # fmt: skip
    columns = ("customer", "period", "quantity", "billable", "events", "closed at", "reopened")
    if all(one.is_standing for one in periods):
        columns, rows = without(6, columns), [without(6, row) for row in rows]
    table(columns, rows, right=("quantity", "billable", "events"))


def show_adjustments(timezone: "ZoneInfo", adjustments: Sequence["Adjustment"], *, with_events: bool) -> None:
    """One line for each closed period that something happened to since; with the events that caused it, if wanted."""
    if not adjustments:
        say("No adjustments: every closed period comes to what was frozen.")
        return
    figures = ("frozen", "now", "difference", "billable difference", "rules difference")
    rows = [
        (one.period.customer, _name(one.period, timezone), number(one.period.quantity), number(one.quantity),
         signed(one.difference), signed(one.billable_difference), signed(one.rules_difference))
        for one in adjustments
    ]  # fmt: skip
    table(("customer", "period", *figures), rows, right=figures)
    for one in adjustments if with_events else ():
        say()
        say(f"{one.period.customer}, {_name(one.period, timezone)}: {signed(one.difference)} since it was closed")
        if one.events:
            _show_events(one.events, timezone)
        else:
            say("No event: only the rules were changed.")


def show_reopened(timezone: "ZoneInfo", period: "ClosedPeriod") -> None:
    """That a period can be closed anew."""
    say(
        f"{period.event_name}, {period.customer}, {_name(period, timezone)} is reopened"
        f"{because(period.reason, period.by)}"
    )
    say(f"Its figure of {when(period.closed_at.replace(microsecond=0))} was {number(period.quantity)}, and is kept.")


def _show_events(events: Sequence["AdjustingEvent"], timezone: "ZoneInfo") -> None:
    rows = [
        (when(one.occurred_at, timezone), one.identifier, number(one.value), signed(one.change),
         one.before or "not recorded", verdict(one))
        for one in events
    ]  # fmt: skip
    columns = ("occurred at", "identifier", "value", "change", "when closed", "now")
    table(columns, rows, right=("value", "change"))


def _name(period: "ClosedPeriod", timezone: "ZoneInfo") -> str:
    from .periods import in_words  # noqa: PLC0415 - loads the domain

    return in_words(period.start, period.end, timezone)


def _reopened(period: "ClosedPeriod") -> str:
    if period.reopened_at is None:
        return ""
    return f"{when(period.reopened_at.replace(microsecond=0))}{because(period.reason, period.by)}"
