"""The output of the `period` commands."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..formatting import (
    format_count,
    format_difference,
    format_number,
    format_requester,
    format_time,
    format_verdict,
)
from .columns import dimension_cells, dimension_keys, dimension_titles, format_value, group_cells, numeric_columns
from .queries_output import show_counted_range
from .tables import fields, table
from .terminal import format_name, say

if TYPE_CHECKING:
    from decimal import Decimal
    from zoneinfo import ZoneInfo

    from ....domain.closed_period import ClosedPeriod, PeriodGroup
    from ...adjustment_results import AdjustingEvent, Adjustment, GroupAdjustment, PeriodGap
    from ...commands.period_closing import PeriodClosing
    from ...invoice_results import PeriodPreview

_TOTALS = ("quantity", "billable", "events")
"""The columns of frozen totals."""


def show_closed(timezone: "ZoneInfo", closing: "PeriodClosing") -> None:
    """Print the frozen totals of a closed period, line by line."""
    period = closing.period
    state = "was closed before" if closing.was_closed else "is closed"
    say(f"{period.event_name}, {format_name(period.customer)}, {_format_period(period, timezone)} {state}")
    show_counted_range(period, period, timezone)
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
    if period.groups:
        say()
        keys = dimension_keys(period.groups)
        rows = [(*group_cells(keys, group.dimensions), *_totals(group)) for group in period.groups]
        table((*dimension_titles(keys, _TOTALS), *_TOTALS), rows, right=_TOTALS)
        if closing.gaps:
            say()
    show_gaps(timezone, closing.gaps)


def show_preview(timezone: "ZoneInfo", preview: "PeriodPreview") -> None:
    """Print what closing a period would freeze, and the difference to what was invoiced."""
    totals, previous = preview.totals, preview.previous
    name = f"{preview.event_name}, {format_name(preview.customer)}, {_format_period(preview, timezone)}"
    say(f"{name} would be closed under rules revision {totals.revision}; nothing is stored")
    rows = [("would be frozen", *map(format_number, (totals.quantity, totals.billable, totals.count)))]
    if previous is not None:
        invoiced = previous.invoiced
        differences = format_difference(preview.difference), format_difference(preview.billable_difference)
        rows.append(("invoiced", format_number(invoiced.quantity), format_number(invoiced.billable), ""))
        rows.append(("difference", *differences, ""))
    table(("", *_TOTALS), rows, right=_TOTALS)


def show_gaps(timezone: "ZoneInfo", gaps: "Sequence[PeriodGap]") -> None:
    """Print one line for each range between closed periods that is in none of them."""
    for gap in gaps:
        usage = f"{format_count(gap.count, 'event')} with {format_number(gap.value)}" if gap.count else "no usage"
        bounds = f"{format_time(gap.start, timezone)} to {format_time(gap.end, timezone)} ({timezone})"
        say(f"gap: {format_name(gap.customer)}, {bounds} is in no closed period: {usage}")


def show_periods(timezone: "ZoneInfo", periods: Sequence["ClosedPeriod"]) -> None:
    """Print one line for each closed period, and under it one for each of its groups."""
    if not periods:
        say("No closed periods.")
        return
    keys = dimension_keys(group for period in periods for group in period.groups)
    columns = ("customer", "period", *_TOTALS, "closed at", "settled", "reopened")
    columns = (*columns[:2], *dimension_titles(keys, columns), *columns[2:])
    rows = [
        (period.customer, _format_period(period, timezone), *cells,
         format_time(period.closed_at.replace(microsecond=0)), _format_settlements(period), _format_reopening(period))
        for period in periods
        for cells in _part_cells(period, keys)
    ]  # fmt: skip
    is_reopened, is_settled = (any(not one.is_closed for one in periods), any(one.settlements for one in periods))
    hidden = {column for column, is_used in (("reopened", is_reopened), ("settled", is_settled)) if not is_used}
    table(columns, rows, right=_TOTALS, whole=("period", "closed at"), hidden=hidden)


def show_by_meter(show: "Callable[[Sequence[Adjustment]], object]", adjustments: Sequence["Adjustment"]) -> None:
    """Print adjustments of several meters, those of each meter under its name."""
    meters = dict.fromkeys(adjustment.period.event_name for adjustment in adjustments)
    if not meters:
        show([])
    for index, event_name in enumerate(meters):
        if index:
            say()
        say(f"{format_name(event_name)}:")
        show([adjustment for adjustment in adjustments if adjustment.period.event_name == event_name])


def show_adjustments(timezone: "ZoneInfo", adjustments: Sequence["Adjustment"], *, with_events: bool) -> None:
    """Print one line for each closed period that has changed since, and under it one for each group.

    With `with_events`, the events that caused it are printed too.
    """
    if not adjustments:
        say("No adjustments: no closed period has changed since it was closed or settled.")
        return
    numbers = ("frozen", "settled", "now", "difference", "billable difference", "rules difference")
    keys = dimension_keys(group for adjustment in adjustments for group in adjustment.groups)
    columns = ("customer", "period", *dimension_titles(keys, ("customer", "period", *numbers)), *numbers)
    rows = [row for adjustment in adjustments for row in _adjustment_rows(adjustment, keys, timezone)]
    hidden = () if any(adjustment.period.settlements for adjustment in adjustments) else ("settled",)
    table(columns, rows, right=numbers, whole=("period",), hidden=hidden)
    for adjustment in adjustments if with_events else ():
        period, difference = adjustment.period, format_difference(adjustment.difference)
        say()
        since = "settled" if period.settlements else "closed"
        say(f"{format_name(period.customer)}, {_format_period(period, timezone)}: {difference} since it was {since}")
        if adjustment.events:
            _show_events(adjustment.events, timezone, f"when {since}")
        elif period.settlements:
            settled = period.settlements[-1]
            say(f"No event since the settlement by {format_name(settled.document)}. "
                f"Those that it settled are shown with --as-of {settled.position}.")  # fmt: skip
        else:
            say("No event: only the rules were changed.")


_ROLL_FORWARD = (
    "frozen", "late", "cancelled", "superseded", "restored", "recalculated", "now", "settled", "open", "by rules",
)  # fmt: skip

_OPTIONAL_PARTS = {"late", "cancelled", "superseded", "restored", "recalculated", "settled", "by rules"}
"""The columns that aren't shown if they are zero for all periods."""


def show_roll_forwards(timezone: "ZoneInfo", adjustments: Sequence["Adjustment"]) -> None:
    """Print how the frozen total of each closed period that has changed became what it is now."""
    if not adjustments:
        say("No adjustments: no closed period has changed since it was closed or settled.")
        return
    rows = [
        (
            adjustment.period.customer,
            _format_period(adjustment.period, timezone),
            *(_roll_forward_cell(adjustment, column) for column in _ROLL_FORWARD),
        )
        for adjustment in adjustments
    ]
    columns = ("customer", "period", *_ROLL_FORWARD)
    zeros = {column for column, *cells in zip(columns, *rows, strict=True) if set(cells) == {"0"}}
    table(columns, rows, right=_ROLL_FORWARD, whole=("period",), hidden=zeros & _OPTIONAL_PARTS)


def _roll_forward_cell(adjustment: "Adjustment", column: str) -> str:
    value = getattr(adjustment.roll_forward, column.replace(" ", "_"))
    return format_number(value) if column in {"frozen", "now"} else format_difference(value)


def show_reopened(timezone: "ZoneInfo", period: "ClosedPeriod") -> None:
    """Print that a period was reopened, and its frozen total."""
    requester = format_requester(period.reason, period.by, period.on_behalf_of)
    customer, name = format_name(period.customer), _format_period(period, timezone)
    say(f"{period.event_name}, {customer}, {name} is reopened{requester}")
    closed_at = format_time(period.closed_at.replace(microsecond=0))
    say(f"The total frozen at {closed_at} was {format_number(period.quantity)}; it stays in the ledger.")
    if period.settlements:
        say(f"Its settlements are withdrawn too: {_format_settlements(period)}")


def _show_events(events: Sequence["AdjustingEvent"], timezone: "ZoneInfo", before: str) -> None:
    others = ("occurred at", "identifier", "value", "change", before, "now")
    keys = dimension_keys(events)
    columns = (*others[:2], *dimension_titles(keys, others), *others[2:])
    rows = [
        (format_time(event.occurred_at, timezone), event.identifier, *dimension_cells(keys, event.dimensions),
         format_value(event), format_difference(event.change), event.before or "not recorded", format_verdict(event))
        for event in events
    ]  # fmt: skip
    table(columns, rows, right=numeric_columns(events, "value", "change"), whole=("occurred at",))


def _part_cells(period: "ClosedPeriod", keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the dimensions and totals of a closed period, and then those of each of its groups."""
    yield (*group_cells(keys, {}), *_totals(period))
    for group in period.groups:
        yield (*group_cells(keys, group.dimensions), *_totals(group))


def _totals(totals: "ClosedPeriod | PeriodGroup") -> tuple[str, ...]:
    """Return the cells of the columns `_TOTALS`."""
    return tuple(map(format_number, (totals.quantity, totals.billable, totals.count)))


def _adjustment_rows(adjustment: "Adjustment", keys: Sequence[str], timezone: "ZoneInfo") -> Iterator[tuple[str, ...]]:
    """Yield a row for an adjustment, and after it one for each of its groups."""
    period = adjustment.period
    cells = (period.customer, _format_period(period, timezone))
    others = (format_difference(adjustment.billable_difference), format_difference(adjustment.rules_difference))
    frozen, settled = adjustment.roll_forward.frozen, adjustment.roll_forward.settled
    frozen_text = format_number(period.quantity if frozen == period.quantity else frozen)  # with its original digits
    yield (*cells, *group_cells(keys, {}), frozen_text, format_difference(settled), *_change(adjustment), *others)
    for group in adjustment.groups:
        dimensions, invoiced = group_cells(keys, group.dimensions), format_number(_invoiced(group))
        billable_difference = format_difference(group.billable_difference)
        yield (*cells, *dimensions, invoiced, "-", *_change(group), billable_difference, "-")


def _invoiced(group: "GroupAdjustment") -> "Decimal":
    """Return the quantity of a group when the period was closed, or last settled."""
    from ....domain.decimals import EXACT_CONTEXT  # noqa: PLC0415 - loads the domain

    return EXACT_CONTEXT.subtract(group.quantity, group.difference)


def _change(adjustment: "Adjustment | GroupAdjustment") -> tuple[str, str]:
    return format_number(adjustment.quantity), format_difference(adjustment.difference)


def _format_period(period: "ClosedPeriod | PeriodPreview", timezone: "ZoneInfo") -> str:
    from ..calendar_periods import format_period  # noqa: PLC0415 - loads the domain

    return format_period(period.start, period.end, timezone)


def _format_reopening(period: "ClosedPeriod") -> str:
    if period.reopened_at is None:
        return ""
    requester = format_requester(period.reason, period.by, period.on_behalf_of)
    return f"{format_time(period.reopened_at.replace(microsecond=0))}{requester}"


def _format_settlements(period: "ClosedPeriod") -> str:
    """Return the signed differences that were settled, each with its document."""
    return ", ".join(f"{format_difference(one.difference)} by {one.document}" for one in period.settlements)
