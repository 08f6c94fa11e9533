"""Closing the same period of many customers, each by itself."""

from dataclasses import dataclass
from functools import partial

from ...domain.closed_period import ClosedPeriod
from ...domain.errors import PeriodNotOver, TallybookError
from ..metering import Metering
from . import terminal
from .interruption import interruptible
from .periods import Span
from .session import Session


@dataclass(frozen=True)
class Closing:
    """A closed period, and whether it was closed before this."""

    period: ClosedPeriod
    was_closed: bool


@dataclass(frozen=True)
class RefusedClosing:
    """A customer whose period was not closed, and why."""

    customer: str
    error: TallybookError


@dataclass(frozen=True)
class ClosingRun:
    """What became of the period of each customer."""

    closed: list[Closing]
    refused: list[RefusedClosing]


def close_one(metering: Metering, event_name: str, customer: str, span: Span) -> Closing:
    """Close one customer's period."""
    before = metering.closed_periods(event_name, customer, start=span.start, end=span.end)
    period = metering.close_period(event_name, customer, span.start, span.end)
    return Closing(period, period in before)


def close_all(session: Session, event_name: str, span: Span) -> ClosingRun:
    """Close the period of each customer with usage in it; go on past what is refused for one of them.

    Raises PeriodNotOver, which is so for all of them.
    """
    metering = session.metering
    run = ClosingRun([], [])
    before = metering.closed_periods(event_name, start=span.start, end=span.end)
    customers = [total.customer for total in metering.totals(event_name, span.start, span.end)]
    with (
        interruptible(session, partial(_left_behind, run, len(customers))),
        terminal.progress("closing") as advance,
    ):
        for done, customer in enumerate(filter(None, customers), 1):
            try:
                period = metering.close_period(event_name, customer, span.start, span.end)
            except PeriodNotOver:
                raise
            except TallybookError as error:
                run.refused.append(RefusedClosing(customer, error))
            else:
                run.closed.append(Closing(period, period in before))
            advance(done, len(customers))
    return run


def _left_behind(run: ClosingRun, customers: int) -> str:
    done = len(run.closed) + len(run.refused)
    return f"Interrupted after {done:,} of {customers:,} customers. Start it again to go on; what is closed stays so."
