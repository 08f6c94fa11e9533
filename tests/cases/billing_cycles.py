"""The peers' cases about periods alone: where one ends, and where the next begins when a customer moves."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from tallybook.domain import BillingCycle

from .peers import Case, CaseOfAnyKind, Figure, Part, Query, Run


class Asked(Part):
    """The period of a cycle that holds a moment."""

    interval: str
    timezone: str
    contains: datetime


class Bounds(Part):
    """Where a period ends, and where it begins if the case says so."""

    start: datetime | None = None
    end: datetime


class LocalBounds(Bounds):
    """The bounds of a month by the clocks of a timezone."""

    timezone: str


class PeriodBounds(CaseOfAnyKind):
    """A case that asks for the bounds of one period."""

    kind: Literal["period_bounds"]
    query: None
    expected: None
    period: Asked
    expected_period: Bounds


class TimezoneChange(CaseOfAnyKind):
    """A case of a customer who moves: the periods in turn, and what is used in the last one."""

    kind: Literal["timezone_change"]
    query: None
    expected: None
    periods: list[LocalBounds]
    expected_total_second_period: Decimal


def check_period_bounds(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Hold the bounds of a period; the moments in it have nothing to do with batches."""
    case = PeriodBounds.model_validate(stored)
    period = BillingCycle(case.period.interval, case.period.timezone).around(case.period.contains)
    _check_bounds(period, case.expected_period)


def check_timezone_change(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Hold that each period begins where the one before ended, and that what is used between their clocks counts."""
    case = TimezoneChange.model_validate(stored)
    first, *later = case.periods
    period = BillingCycle("month", first.timezone).around(first.end - timedelta(microseconds=1))
    _check_bounds(period, first)
    for following in later:
        period = BillingCycle("month", following.timezone).after(period[1])
        _check_bounds(period, following)
    (customer,) = {event.customer for event in case.events}
    asked = Case(
        **{field: getattr(case, field) for field in CaseOfAnyKind.model_fields},
        kind="aggregate",
        query=Query(customer=customer, start=period[0], end=period[1], window=None),
        expected=[Figure(value=case.expected_total_second_period)],
    )
    Run(asked, in_one_batch=in_one_batch).check()


def _check_bounds(period: tuple[datetime, datetime], expected: Bounds) -> None:
    assert period == (expected.start or period[0], expected.end)
