"""The output of the `period` commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .error_text import to_cli_text
from .formatting import (
    format_count,
    format_difference,
    format_number,
    format_requester,
    format_time,
    format_verdict,
)
from .tables import fields, table
from .terminal import format_name, say, without_column

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from ....domain.customer_periods import ClosedPeriod
    from ...commands.close_all import FailedClosing, PeriodClosing
    from ...results import AdjustingEvent, Adjustment, PeriodGap
    from .time_ranges import TimeRange


@dataclass(frozen=True, slots=True)
class ClosingResults:
    """The result of `period close --all`."""

    closed: "list[PeriodClosing]"
    failed: "list[FailedClosing]"

    def describe_interruption(self, customer_count: int) -> str:
        """Return how many of the customers were processed before Ctrl-C, and how to continue."""
        done = len(self.closed) + len(self.failed)
        return (
            f"Interrupted after {done:,} of {customer_count:,} customers. Run the command again to continue; closed "
            "periods stay closed."
        )


def show_closed(timezone: "ZoneInfo", closing: "PeriodClosing") -> None:
    """Print the frozen totals of a closed period, line by line."""
    period = closing.period
    state = "was closed before" if closing.was_closed else "is closed"
    say(f"{period.event_name}, {format_name(period.customer)}, {_format_period(period, timezone)} {state}")
    numbers = {"quantity": period.quantity, "billable": period.billable, "events": period.count}
    width = max(len(format_number(number)) for number in numbers.values())
    fields((name, f"{format_number(number):>{width}}") for name, number in numbers.items())
    fields(
        (
            ("closed at", format_time(period.closed_at)),
            ("counted by", f"rules revision {period.revision}, ledger position {format_number(period.position)}"),
            ("SHA-256", period.digest),
        )
    )
    show_gaps(timezone, closing.gaps)


def show_closings(event_name: str, span: "TimeRange", results: ClosingResults) -> None:
    """Print one line for each closed period, and one line for each customer whose period could not be closed."""
    say(f"{event_name}, all customers, {span.label}")
    if not results.closed and not results.failed:
        say("No usage, so there is nothing to close.")
        return
    if results.closed:
        rows = [
            (closing.period.customer, format_number(closing.period.quantity), format_number(closing.period.billable),
             format_number(closing.period.count), "before" if closing.was_closed else "now")
            for closing in results.closed
        ]  # fmt: skip
        table(("customer", "quantity", "billable", "events", "closed"), rows, right=("quantity", "billable", "events"))
    closed_before = sum(closing.was_closed for closing in results.closed)
    failed = f", {format_number(len(results.failed))} failed" if results.failed else ""
    closed_now = format_count(len(results.closed) - closed_before, "period")
    say(f"{closed_now} closed now, {format_number(closed_before)} before{failed}")
    for failure in results.failed:
        error = failure.error
        say(f"{format_name(failure.customer)}: {error.code}: {to_cli_text(error.message, error.field)}")
    for closing in results.closed:
        show_gaps(span.timezone, [gap for gap in closing.gaps if gap.count])


def show_gaps(timezone: "ZoneInfo", gaps: "Sequence[PeriodGap]") -> None:
    """Print one line for each range between closed periods that is in none of them."""
    for gap in gaps:
        usage = f"{format_count(gap.count, 'event')} with {format_number(gap.value)}" if gap.count else "no usage"
        bounds = f"{format_time(gap.start, timezone)} to {format_time(gap.end, timezone)} ({timezone})"
        say(f"gap: {format_name(gap.customer)}, {bounds} is in no closed period: {usage}")


def show_periods(timezone: "ZoneInfo", periods: Sequence["ClosedPeriod"]) -> None:
    """Print one line for each closed period."""
    if not periods:
        say("No closed periods.")
        return
    rows = [
        (period.customer, _format_period(period, timezone), format_number(period.quantity),
         format_number(period.billable), format_number(period.count),
         format_time(period.closed_at.replace(microsecond=0)), _format_reopening(period))
        for period in periods
    ]  # fmt: skip
    columns = ("customer", "period", "quantity", "billable", "events", "closed at", "reopened")
    if all(period.is_closed for period in periods):
        columns, rows = without_column(6, columns), [without_column(6, row) for row in rows]
    table(columns, rows, right=("quantity", "billable", "events"), whole=("period", "closed at"))


def show_adjustments(timezone: "ZoneInfo", adjustments: Sequence["Adjustment"], *, with_events: bool) -> None:
    """Print one line for each closed period that has changed since; with the events that caused it if wanted."""
    if not adjustments:
        say("No adjustments: no closed period has changed since it was closed.")
        return
    numbers = ("frozen", "now", "difference", "billable difference", "rules difference")
    rows = [
        (adjustment.period.customer, _format_period(adjustment.period, timezone),
         format_number(adjustment.period.quantity), format_number(adjustment.quantity),
         format_difference(adjustment.difference), format_difference(adjustment.billable_difference),
         format_difference(adjustment.rules_difference))
        for adjustment in adjustments
    ]  # fmt: skip
    table(("customer", "period", *numbers), rows, right=numbers, whole=("period",))
    for adjustment in adjustments if with_events else ():
        period, difference = adjustment.period, format_difference(adjustment.difference)
        say()
        say(f"{format_name(period.customer)}, {_format_period(period, timezone)}: {difference} since it was closed")
        if adjustment.events:
            _show_events(adjustment.events, timezone)
        else:
            say("No event: only the rules were changed.")


def show_reopened(timezone: "ZoneInfo", period: "ClosedPeriod") -> None:
    """Print that a period was reopened, and its frozen total."""
    requester = format_requester(period.reason, period.by)
    customer, name = format_name(period.customer), _format_period(period, timezone)
    say(f"{period.event_name}, {customer}, {name} is reopened{requester}")
    closed_at = format_time(period.closed_at.replace(microsecond=0))
    say(f"The total frozen at {closed_at} was {format_number(period.quantity)}; it stays in the ledger.")


def _show_events(events: Sequence["AdjustingEvent"], timezone: "ZoneInfo") -> None:
    rows = [
        (format_time(event.occurred_at, timezone), event.identifier, format_number(event.value),
         format_difference(event.change), event.before or "not recorded", format_verdict(event))
        for event in events
    ]  # fmt: skip
    columns = ("occurred at", "identifier", "value", "change", "when closed", "now")
    table(columns, rows, right=("value", "change"), whole=("occurred at",))


def _format_period(period: "ClosedPeriod", timezone: "ZoneInfo") -> str:
    from .time_ranges import format_period  # noqa: PLC0415 - loads the domain

    return format_period(period.start, period.end, timezone)


def _format_reopening(period: "ClosedPeriod") -> str:
    if period.reopened_at is None:
        return ""
    return f"{format_time(period.reopened_at.replace(microsecond=0))}{format_requester(period.reason, period.by)}"
