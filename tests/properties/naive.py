"""A naive model of counting: loops over the whole history, without any counting code of the package."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction


@dataclass(frozen=True)
class HistoryEntry:
    """One event of a history, at its position: a meter event, or a cancellation."""

    position: int
    recorded_at: datetime
    identifier: str
    meter: str = ""
    customer: str = ""
    occurred_at: datetime = datetime.min
    value: str | None = None
    dimensions: tuple[str, ...] = ()
    cancels: bool = False


ReferenceTotals = tuple[Fraction, int, Fraction | None]


def effective(history: list[HistoryEntry], meter: str, window: str | None) -> list[HistoryEntry]:
    """Return the meter events of `meter` that count, ordered by (occurred_at, position)."""
    cancelled = {entry.identifier for entry in history if entry.cancels}
    entries = [entry for entry in history if entry.meter == meter and entry.identifier not in cancelled]
    if window is not None:
        pattern = "%Y-%m-%d %H" if window == "hour" else "%Y-%m-%d"
        newest: dict[object, HistoryEntry] = {}
        for entry in entries:  # in order of arrival: a later entry replaces an earlier one
            newest[entry.customer, entry.dimensions, entry.occurred_at.strftime(pattern)] = entry
        entries = list(newest.values())
    return sorted(entries, key=lambda entry: (entry.occurred_at, entry.position))


def compute_totals(
    entries: list[HistoryEntry], customer: str | None, start: datetime, end: datetime
) -> ReferenceTotals:
    """Return sum, count and last of `customer`, or of all customers if None, in [start, end)."""
    in_range = [entry for entry in entries if customer in (None, entry.customer) and start <= entry.occurred_at < end]
    values = [None if entry.value is None else Fraction(entry.value) for entry in in_range]
    total = sum((value for value in values if value is not None), Fraction(0))
    return total, len(in_range), values[-1] if values else None
