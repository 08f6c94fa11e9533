"""The output of the commands `total`, `totals`, `summaries` and `events`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..formatting import (
    format_count,
    format_number,
    format_time,
    format_verdict,
    format_window_start,
)
from .columns import dimension_cells, dimension_keys, dimension_titles, format_value, group_cells, numeric_columns
from .tables import fields, table
from .terminal import format_name, say, without_column

if TYPE_CHECKING:
    from datetime import tzinfo
    from decimal import Decimal

    from ....domain.closed_period import ClosedPeriod
    from ...results import MeterEventView, Total
    from .time_ranges import TimeRange

_NUMBERS = ("value", "billable", "count", "last")


def heading(event_name: str, customer: str | None, span: "TimeRange") -> str:
    """Return the line above a result: the meter, the customer and the time range."""
    return f"{event_name}, {'all customers' if customer is None else format_name(customer)}, {span.label}"


def show_counted_range(first: "Total | ClosedPeriod", last: "Total | ClosedPeriod", timezone: "tzinfo") -> None:
    """Print from and until when usage is counted, if a range of results, from `first` to `last`, cuts a window."""
    counted_from, counted_until = first.counted_from, last.counted_until
    if counted_from is not None or counted_until is not None:
        start, end = (format_time(at, timezone) for at in (counted_from or first.start, counted_until or last.end))
        say(f"usage from {start} to {end} ({timezone}): whole event time windows")


def show_total(event_name: str, formula: str | None, span: "TimeRange", total: "Total") -> None:
    """Print all values of one total, with the formula of the first if it is known, and a line for each group."""
    value = "value" if formula is None else f"value ({formula})"
    numbers = {value: total.value, "billable": total.billable, "sum": total.sum, "count": total.count,
               "last": total.last, "min": total.min, "max": total.max}  # fmt: skip
    width = max(len(format_number(number)) for number in numbers.values())
    say(heading(event_name, total.customer, span))
    show_counted_range(total, total, span.timezone)
    fields((name, f"{format_number(number):>{width}}") for name, number in numbers.items())
    if total.groups:
        say()
        show_groups(total)


def show_groups(total: "Total") -> None:
    """Print one line for each group of a total."""
    keys = dimension_keys(total.groups)
    rows = [(*group_cells(keys, group.dimensions), *_numbers(group)) for group in total.groups]
    table((*dimension_titles(keys, _NUMBERS), *_NUMBERS), rows, right=_NUMBERS)


def show_totals(event_name: str, span: "TimeRange", totals: Sequence["Total"]) -> None:
    """Print one line for each customer, and under it one for each group."""
    say(heading(event_name, None, span))
    if not totals:
        say("No usage.")
        return
    show_counted_range(totals[0], totals[0], span.timezone)
    keys = dimension_keys(group for total in totals for group in total.groups)
    columns = ("customer", *dimension_titles(keys, ("customer", *_NUMBERS)), *_NUMBERS)
    rows = [
        (total.customer or "", *group_cells(keys, part.dimensions), *_numbers(part))
        for total in totals
        for part in (total, *total.groups)
    ]
    table(columns, rows, right=_NUMBERS)
    say(format_count(len(totals), "customer"))


def show_summaries(
    event_name: str, customer: str | None, window: str, span: "TimeRange", totals: Sequence["Total"]
) -> None:
    """Print one line with a bar for each window and under it for each group; "..." for windows without usage."""
    say(heading(event_name, customer, span))
    if not totals:
        say("No usage.")
        return
    show_counted_range(totals[0], totals[-1], span.timezone)
    keys, numbers = dimension_keys(group for total in totals for group in total.groups), ("value", "count")
    columns = (window, *dimension_titles(keys, (window, *numbers)), *numbers)
    rows: list[tuple[str, ...]] = []
    bar_values: list[Decimal | None] = []
    previous_end = totals[0].start
    for total in totals:
        if previous_end < total.start:
            rows.append(("...", *("" for _ in columns[1:])))
            bar_values.append(None)
        start = format_window_start(total.start, window, span.timezone)
        for part in (total, *total.groups):
            cells = group_cells(keys, part.dimensions)
            rows.append((start, *cells, format_number(part.value), format_number(part.count)))
            bar_values.append(part.value)
        previous_end = total.end
    table(columns, rows, right=numbers, whole=(window,), bar_values=bar_values)


def show_events(
    event_name: str, customer: str | None, limit: int, span: "TimeRange", events: Sequence["MeterEventView"]
) -> None:
    """Print one line for each meter event, and the option that selects the next page."""
    say(heading(event_name, customer, span))
    if not events:
        say("No meter events.")
        return
    others, keys = ("occurred at", "identifier", "customer", "value", "verdict"), dimension_keys(events)
    columns = (*others[:3], *dimension_titles(keys, others), *others[3:])
    rows = [
        (format_time(event.occurred_at, span.timezone), event.identifier, event.customer,
         *dimension_cells(keys, event.dimensions), format_value(event), format_verdict(event))
        for event in events
    ]  # fmt: skip
    if len({event.customer for event in events}) == 1:
        columns, rows = without_column(2, columns), [without_column(2, row) for row in rows]
    table(columns, rows, right=numeric_columns(events, "value"), whole=("occurred at",))
    if len(events) == limit:
        say(f"For the next page: --starting-after {events[-1].identifier}")


def _numbers(total: "Total") -> tuple[str, ...]:
    return tuple(map(format_number, (total.value, total.billable, total.count, total.last)))
