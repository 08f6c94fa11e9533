"""Closes the same period of many customers, each on its own."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ...domain.customer_periods import ClosedPeriod
from ...domain.errors import PeriodNotEnded, TallybookError
from ..results import PeriodGap
from .periods import PeriodCommands


@dataclass(frozen=True, slots=True)
class PeriodClosing:
    """A closed period of a customer. `was_closed` is true if it was closed before this call.

    `gaps` are the ranges directly before and after it that belong to no closed period, though another one precedes or
    follows.
    """

    period: ClosedPeriod
    was_closed: bool
    gaps: tuple[PeriodGap, ...]


@dataclass(frozen=True, slots=True)
class FailedClosing:
    """A customer whose period was not closed, and the error."""

    customer: str
    error: TallybookError


def close_period(
    periods: PeriodCommands,
    event_name: str,
    customer: str,
    start: datetime,
    end: datetime,
    group_by: Sequence[str] = (),
) -> PeriodClosing:
    """Close a period of one customer. Raises PeriodNotEnded or PeriodOverlaps."""
    closed_before = periods.list(event_name, customer, start=start, end=end)
    return _close(periods, event_name, customer, start, end, group_by, closed_before)


def close_all(
    periods: PeriodCommands,
    event_name: str,
    customers: Iterable[str],
    start: datetime,
    end: datetime,
    group_by: Sequence[str] = (),
) -> Iterator[PeriodClosing | FailedClosing]:
    """Close the period [start, end) of each customer, and yield each result as soon as it is stored.

    An error of one customer is yielded and does not prevent the other closings, except PeriodNotEnded: it applies to
    all customers and is raised.
    """
    closed_before = periods.list(event_name, start=start, end=end)
    for customer in customers:
        try:
            yield _close(periods, event_name, customer, start, end, group_by, closed_before)
        except PeriodNotEnded:
            raise
        except TallybookError as error:
            yield FailedClosing(customer, error)


def _close(
    periods: PeriodCommands,
    event_name: str,
    customer: str,
    start: datetime,
    end: datetime,
    group_by: Sequence[str],
    closed_before: Collection[ClosedPeriod],
) -> PeriodClosing:
    period = periods.close(event_name, customer, start, end, group_by=group_by)
    gaps = periods.gaps(event_name, customer, start=start, end=end)
    return PeriodClosing(period, period in closed_before, tuple(gaps))
