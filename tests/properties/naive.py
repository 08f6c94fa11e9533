"""A naive model of counting: loops over the whole history, without any counting code of the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import accumulate, pairwise, takewhile
from typing import NamedTuple

Bounds = tuple[datetime, datetime]


@dataclass(frozen=True)
class HistoryEntry:
    """One event of a history, at its position: a meter event, a cancellation, or the revocation of one.

    A revocation also has `cancels`, which tells it from a meter event.
    Only a meter event under the formula unique_count has a `unique_value`, and no `value` then. A filtered one has
    neither.
    """

    position: int
    recorded_at: datetime
    identifier: str
    meter: str = ""
    customer: str = ""
    occurred_at: datetime = datetime.min
    value: str | None = None
    dimensions: tuple[str | None, ...] = ()
    cancels: bool = False
    revokes: bool = False
    unique_value: str | None = None
    is_filtered: bool = False
    payload: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)


class ReferenceTotals(NamedTuple):
    """The totals of counted meter events."""

    sum: Fraction
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    last: Fraction | None
    min: Fraction | None
    max: Fraction | None


def known_at(history: Sequence[HistoryEntry], moment: datetime) -> list[HistoryEntry]:
    """Return the entries before the first that was recorded later than `moment`."""
    return list(takewhile(lambda entry: entry.recorded_at <= moment, history))


def cancelled_identifiers(history: Sequence[HistoryEntry]) -> set[str]:
    """Return the identifiers whose newest cancellation isn't revoked."""
    cancelled: set[str] = set()
    for entry in history:
        if entry.revokes:
            cancelled.discard(entry.identifier)
        elif entry.cancels:
            cancelled.add(entry.identifier)
    return cancelled


def effective(history: list[HistoryEntry], meter: str, window: str | None) -> list[HistoryEntry]:
    """Return the meter events of `meter` that count, ordered by (occurred_at, position)."""
    cancelled = cancelled_identifiers(history)
    entries = [
        entry
        for entry in history
        if entry.meter == meter and not entry.cancels and entry.identifier not in cancelled and not entry.is_filtered
    ]
    if window is not None:
        pattern = "%Y-%m-%d %H" if window == "hour" else "%Y-%m-%d"
        newest: dict[object, HistoryEntry] = {}
        for entry in entries:  # in order of arrival: a later entry replaces an earlier one
            newest[entry.customer, entry.dimensions, entry.occurred_at.strftime(pattern)] = entry
        entries = list(newest.values())
    return sorted(entries, key=lambda entry: (entry.occurred_at, entry.position))


def window_start(at: datetime, window: str | None) -> datetime:
    """Return the start of the window that contains a time: the time itself without a window."""
    if window is None:
        return at
    hour = at.replace(minute=0, second=0, microsecond=0)
    return hour if window == "hour" else hour.replace(hour=0)


def next_window_start(at: datetime, window: str | None) -> datetime:
    """Return the start of the first window that starts at a time or later."""
    start = window_start(at, window)
    return start if start == at else start + timedelta(**{f"{window}s": 1})


def entries_between(
    entries: list[HistoryEntry], customer: str | None, start: datetime, end: datetime, window: str | None = None
) -> list[HistoryEntry]:
    """Return the entries of `customer`, or of all customers if None, whose window starts in [start, end)."""
    return [
        entry
        for entry in entries
        if customer in (None, entry.customer) and start <= window_start(entry.occurred_at, window) < end
    ]


def counted_range(bounds: Bounds, window: str | None, closed: Sequence[tuple[Bounds, Bounds]]) -> Bounds:
    """Return the range of the usage in a closing: of the windows that start in it, from where adjoining closings end.

    `closed` are the bounds of the customer's closed periods, and the ranges of their usage.
    """
    counted_from, counted_until = (next_window_start(bound, window) for bound in bounds)
    for other, (other_from, other_until) in closed:
        if other[1] <= bounds[0]:
            counted_from = other_until if other[1] == bounds[0] else max(counted_from, other_until)
        elif bounds[1] <= other[0]:
            counted_until = other_from if other[0] == bounds[1] else min(counted_until, other_from)
    return counted_from, counted_until


def compute_totals(
    entries: list[HistoryEntry], customer: str | None, start: datetime, end: datetime, window: str | None
) -> ReferenceTotals:
    """Return the totals of `customer`, or of all customers if None, of the windows that start in [start, end)."""
    in_range = entries_between(entries, customer, start, end, window)
    values = [Fraction(entry.value) for entry in in_range if entry.value is not None]
    last = in_range[-1].value if in_range else None
    return ReferenceTotals(
        sum(values, Fraction(0)),
        len(in_range),
        None if last is None else Fraction(last),
        min(values, default=None),
        max(values, default=None),
    )


def compute_quantity(formula: str, counted: Sequence[HistoryEntry], multiplier: str | None = None) -> Fraction:
    """Return the quantity of counted meter events, ordered by (occurred_at, position)."""
    return round_if_infinite(sum(_shares(formula, counted), Fraction(0)) * Fraction(multiplier or 1))


def compute_contributions(
    formula: str, counted: Sequence[HistoryEntry], multiplier: str | None = None
) -> dict[str, Fraction]:
    """Return what each counted meter event contributes to the quantity, by identifier.

    It is the difference of the quantities, as reported, before and after its share is added.
    """
    shares = [share * Fraction(multiplier or 1) for share in _shares(formula, counted)]
    sums = [round_if_infinite(partial) for partial in accumulate(shares, initial=Fraction(0))]
    differences = [after - before for before, after in pairwise(sums)]
    return {entry.identifier: difference for entry, difference in zip(counted, differences, strict=True)}


def _shares(formula: str, counted: Sequence[HistoryEntry]) -> list[Fraction]:
    """Return the share of each event in the quantity, which is their sum."""
    values = [Fraction(entry.value or 0) for entry in counted]
    match formula:
        case "sum":
            return values
        case "count":
            return [Fraction(1) for _ in counted]
        case "avg":
            return [value / len(values) for value in values]
        case "last":
            return [Fraction(0) for _ in values[:-1]] + values[-1:]
        case "max" | "min":
            extreme = (max if formula == "max" else min)(values, default=None)
            first = None if extreme is None else values.index(extreme)
            return [value if index == first else Fraction(0) for index, value in enumerate(values)]
        case "unique_count":
            texts = [entry.unique_value for entry in counted]
            return [Fraction(texts.index(text) == index) for index, text in enumerate(texts)]
        case _:
            raise ValueError(f"the formula {formula!r} is unknown")


def round_if_infinite(number: Fraction) -> Fraction:
    """Return the number, rounded half to even at 15 digits after the point if its decimal form is infinite."""
    denominator = number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return number if denominator == 1 else Fraction(round(number * 10**15), 10**15)
