"""The output of the `period` commands over all customers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ..formatting import format_count, format_difference, format_number, format_requester, format_time
from .error_text import to_cli_text
from .tables import fields, table
from .terminal import format_name, say

if TYPE_CHECKING:
    from datetime import datetime

    from ....domain.billing_run import ControlTotal
    from ...billing_results import (
        BillingRunResult,
        BillingRunView,
        MeterPeriodStatus,
        PartialClosing,
        PeriodStatus,
        RunDifference,
        UnbilledUsage,
    )
    from .time_ranges import TimeRange

_SHOWN_DIFFERENCES = 20
_REASONS = {
    "open": "is not closed",
    "partly_closed": "is closed in part",
    "gap": "is in a gap between closed periods",
}


def show_run(timezone: ZoneInfo, result: "BillingRunResult") -> None:
    """Print the control totals of a run, and each customer whose usage is not, or not as it was, in its closings."""
    run = result.run
    state = "was closed before" if result.was_closed else "is closed"
    say(f"billing run {run.number}, {_format_period(run, timezone)} {state}, from the events up to position "
        f"{format_number(run.position)}")  # fmt: skip
    _show_control_totals(run.meters)
    for difference in result.differences[:_SHOWN_DIFFERENCES]:
        say(_describe_difference(difference))
    hidden = result.difference_count - min(len(result.differences), _SHOWN_DIFFERENCES)
    if hidden > 0:
        say(f"… and {format_count(hidden, 'other difference')}; --json lists up to 1,000")


def show_runs(runs: "Sequence[BillingRunView]") -> None:
    """Print the billing runs with their control totals."""
    if not runs:
        say("No billing runs.")
    for index, run in enumerate(runs):
        if index:
            say()
        timezone = ZoneInfo(run.timezone)
        say(f"billing run {run.number}, {_format_period(run, timezone)} ({run.timezone})")
        interrupted = "interrupted: run the same command again"
        closed = interrupted if run.closed_at is None else _format_time(run.closed_at, run.closed_by)
        fields(
            (
                ("started", _format_time(run.started_at, run.started_by)),
                ("closed", closed),
                ("position", format_number(run.position)),
            )
        )
        if run.meters:
            _show_control_totals(run.meters)


def show_status(span: "TimeRange", status: "PeriodStatus") -> None:
    """Print how much of a period is closed on each meter, and the usage in no closed period."""
    say(f"{span.label}, at ledger position {format_number(status.position)}")
    if not status.meters:
        say("No meters.")
        return
    columns = ("meter", "closed", "late", "open", "unbilled customers", "unbilled events")
    rows = [
        (
            meter.event_name,
            *(
                format_number(number)
                for number in (
                    meter.closed_customers, meter.late_customers, meter.open_customers, meter.unbilled_customers,
                    meter.unbilled_events,
                )
            ),
        )
        for meter in status.meters
    ]  # fmt: skip
    table(columns, rows, right=columns[1:])
    for run in status.runs:
        if run.closed_at is None:
            say(f"billing run {run.number} was interrupted; run the same command again to complete it")
    for meter in status.meters:
        _show_meter(span.timezone, meter)
    complete = "All usage is billed, or owed as an adjustment."
    say(complete if status.is_complete else "Some usage is in no closed period and in no adjustment.")


def _show_meter(timezone: ZoneInfo, meter: "MeterPeriodStatus") -> None:
    for usage in meter.unbilled:
        say(_describe_unbilled(usage, timezone))
    _show_hidden(meter.unbilled_count - len(meter.unbilled), meter.event_name, "other range with unbilled usage")
    for closing in meter.partial_closings:
        say(f"{_describe_range(closing, timezone)} is closed with other bounds")
    _show_hidden(meter.partial_closing_count - len(meter.partial_closings), meter.event_name, "other closed period")


def _show_hidden(count: int, event_name: str, noun: str) -> None:
    if count > 0:
        say(f"{format_name(event_name)}: … and {format_count(count, noun)}")


def _describe_unbilled(usage: "UnbilledUsage", timezone: ZoneInfo) -> str:
    amount = f"{format_count(usage.count, 'event')} with {format_number(usage.value)}"
    return f"{_describe_range(usage, timezone)} {_REASONS[usage.reason]}: {amount}"


def _describe_range(of_customer: "UnbilledUsage | PartialClosing", timezone: ZoneInfo) -> str:
    """Return the meter, the customer and the range of usage or of a closing."""
    names = f"{format_name(of_customer.event_name)}, {format_name(of_customer.customer)}"
    start, end = format_time(of_customer.start, timezone), format_time(of_customer.end, timezone)
    return f"{names}, {start} to {end} ({timezone})"


def _show_control_totals(totals: "Sequence[ControlTotal]") -> None:
    columns = ("meter", "customers", "quantity", "billable", "events", "usage events", "before", "late", "not closed")
    rows = [
        (
            total.event_name, format_number(total.customers), format_number(total.quantity),
            format_number(total.billable), format_number(total.count), format_number(total.usage_count),
            format_number(total.closed_before), format_number(total.late), format_number(total.not_closed),
        )
        for total in totals
    ]  # fmt: skip
    table(columns, rows, right=columns[1:])
    for total in totals:
        name = format_name(total.event_name)
        if total.is_balanced:
            what = "closings" if total.sum == total.quantity else "values of the counted events in the closings"
            say(f"{name}: the {what} add up to the usage, {format_number(total.usage_sum)}")
        else:
            say(f"{name}: the usage is {format_number(total.usage_sum)}, {format_difference(total.sum_difference)} and "
                f"{format_count(total.count_difference, 'event')} more than the closings")  # fmt: skip


def _describe_difference(difference: "RunDifference") -> str:
    amount = f"{format_difference(difference.sum)} of {format_count(difference.count, 'event')}"
    customer = "all customers" if difference.customer is None else format_name(difference.customer)
    error = difference.error
    match str(difference.reason):
        case "late":
            reason = "had no usage yet in an earlier run of this period, so it is an adjustment of that"
        case "closed_before":
            reason = "changed since it was closed before, which is an adjustment"
        case "adjoining":
            reason = "is in an adjoining period, which was closed under rules with other windows"
        case _:
            text = "" if error is None else f": {error.code}: {to_cli_text(error.message, error.field)}"
            reason = f"not closed{text}"
    return f"{format_name(difference.event_name)}, {customer}, {amount}: {reason}"


def _format_time(at: "datetime", by: str | None) -> str:
    return format_time(at.replace(microsecond=0)) + format_requester(None, by)


def _format_period(run: "BillingRunView", timezone: ZoneInfo) -> str:
    from ..calendar_periods import format_period  # noqa: PLC0415 - loads the domain

    return format_period(run.start, run.end, timezone)
