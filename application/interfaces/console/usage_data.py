"""The usage of a selection in windows and groups, for the table, the chart and the CSV file of the page Usage."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import TextIO

from ....domain.calendar import CalendarWindow, iter_windows
from ....domain.decimals import EXACT_CONTEXT, ZERO
from ....domain.timestamps import to_iso
from ...metering import Metering
from ...result_lists import TotalList
from ...results import Total
from ...spreadsheet_text import escape_formulas
from ..formatting import format_window_start
from ..http.errors import invalid_parameter
from .charts import MAX_SERIES, Slot
from .registry import ViewContext
from .selection import Selection

MAX_WINDOWS = 800
"""The most windows of a page; a CSV file has any number."""
MAX_CHARTED_EVENTS = 60_000
"""Windows of all customers with more events take long: they are shown on request."""

Group = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class WindowUsage:
    """The usage of a window, None if there is none, and of its groups."""

    start: datetime
    end: datetime
    name: str
    total: Total | None


def read_windows(metering: Metering, selection: Selection, window: CalendarWindow) -> list[WindowUsage]:
    """Return all windows of the range in order, also those without usage. Raises ApiError if they are too many."""
    totals = read_summaries(metering, selection, window)
    starts = {total.start: total for total in totals}
    windows: list[WindowUsage] = []
    for start, end in _cut(iter_windows(selection.start, selection.end, window, selection.timezone), starts):
        if len(windows) >= MAX_WINDOWS:
            raise invalid_parameter("window", f"The range has more than {MAX_WINDOWS} windows. Choose a longer window.")
        name = format_window_start(start, window, selection.timezone).removesuffix(" UTC")
        windows.append(WindowUsage(start, end, name, starts.get(start)))
    return windows


def read_summaries(metering: Metering, selection: Selection, window: CalendarWindow) -> TotalList:
    """Return the totals of the windows with usage."""
    return metering.summaries(
        selection.event_name, selection.customer, selection.start, selection.end, window=window,
        timezone=selection.timezone.key, as_of=selection.as_of, where=selection.where or None,
        group_by=selection.group_by,
    )  # fmt: skip


def _cut(
    windows: Iterator[tuple[datetime, datetime]], totals: Mapping[datetime, Total]
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the windows; one in which the rules change is cut there, as its totals are."""
    inner = sorted(totals)
    for start, end in windows:
        cuts = [start, *(at for at in inner if start < at < end), end] if len(inner) <= MAX_WINDOWS else [start, end]
        yield from pairwise(cuts)


@dataclass(frozen=True, slots=True)
class GroupUsage:
    """A group of dimension values with its quantity and the number of its counted events."""

    key: Group
    name: str
    where: Sequence[str]
    value: Decimal
    count: int


def group_usages(total: Total, keys: Sequence[str]) -> list[GroupUsage]:
    """Return the groups of a total by these dimensions, the largest first."""
    groups: list[GroupUsage] = []
    for group in total.groups:
        key = _group_key(group, keys)
        where = [_where_text(*pair) for pair in zip(keys, key, strict=True)]
        groups.append(GroupUsage(key, group_name(key), where, group.value, group.count))
    return sorted(groups, key=lambda group: (-abs(group.value), group.name))


def _group_key(group: Total, keys: Sequence[str]) -> Group:
    return tuple(group.dimensions.get(name) for name in keys)


def group_name(key: Group) -> str:
    """Return the name of a group: its dimension values."""
    return " · ".join("(none)" if value is None else value for value in key)


def chart_slots(
    windows: Sequence[WindowUsage], groups: Sequence[GroupUsage], context: ViewContext, selection: Selection,
    params: Mapping[str, object] | None = None, path: str = "/why",
) -> tuple[list[Slot], list[str]]:  # fmt: skip
    """Return the slots of the chart and the names of its series; without groups, or with negative ones, one series.

    A slot leads to `path`, with the parameters of the selection, or those that are given.
    """
    is_stacked = bool(groups) and all(
        group.value >= 0 for window in windows for group in (window.total.groups if window.total else ())
    )
    coloured = groups[: (MAX_SERIES if len(groups) <= MAX_SERIES else MAX_SERIES - 1) if is_stacked else 0]
    series = [group.name for group in coloured] + (["others"] if is_stacked and len(groups) > len(coloured) else [])
    index = {group.key: number for number, group in enumerate(coloured)}
    slots: list[Slot] = []
    for window in windows:
        values = [ZERO] * max(len(series), 1)
        if window.total is not None and not is_stacked:
            values[0] = window.total.value
        elif window.total is not None:
            for group in window.total.groups:
                slot = index.get(_group_key(group, selection.group_by), len(series) - 1)
                values[slot] = EXACT_CONTEXT.add(values[slot], group.value)
        url = context.url(path, **selection.for_range(window.start, window.end, params))
        slots.append(Slot(window.name, url, values, window.total is None))
    return slots, series


def windows_csv(totals: Iterable[Total], keys: Sequence[str], file: TextIO) -> None:
    """Write totals of windows or of customers to a CSV file, with a row for each group if they are grouped."""
    writer = csv.writer(file)
    writer.writerow(
        ("start", "end", "customer", *(escape_formulas(f"dimension_{key}") for key in keys), "quantity", "billable",
         "events")
    )  # fmt: skip
    for total in totals:
        for part in total.groups or (total,):
            dimensions = (escape_formulas(part.dimensions.get(key) or "") for key in keys)
            customer = escape_formulas(total.customer or "")
            numbers = (format(part.value, "f"), format(part.billable, "f"), str(part.count))
            writer.writerow((to_iso(total.start), to_iso(total.end), customer, *dimensions, *numbers))


def _where_text(key: str, value: str | None) -> str:
    return key if value is None else f"{key}={value}"
