"""Closes a period of one customer; returns whether it was closed before, and the gaps directly before and after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ...domain.closed_period import ClosedPeriod
from ..adjustment_results import PeriodGap
from .periods import ClosingRules, PeriodCommands


@dataclass(frozen=True, slots=True)
class PeriodClosing:
    """A closed period of a customer. `was_closed` is true if it was closed before this call.

    `gaps` are the ranges directly before and after it that belong to no closed period, though another one precedes or
    follows.
    """

    period: ClosedPeriod
    was_closed: bool
    gaps: tuple[PeriodGap, ...]


def close_and_find_gaps(
    periods: PeriodCommands,
    event_name: str,
    customer: str,
    start: datetime,
    end: datetime,
    group_by: Sequence[str] = (),
    *,
    allow_empty: bool = False,
    rules: ClosingRules = "previous",
    by: str | None = None,
) -> PeriodClosing:
    """Close a period of one customer. Raises as `PeriodCommands.close` does."""
    closed_before = periods.list(event_name, customer, start=start, end=end)
    period = periods.close(
        event_name, customer, start, end, group_by=group_by, allow_empty=allow_empty, rules=rules, by=by
    )
    gaps = periods.gaps(event_name, customer, start=start, end=end)
    return PeriodClosing(period, period in closed_before, tuple(gaps))
