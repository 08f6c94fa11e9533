"""The vendors' cases about billing periods: their bounds, also when a customer changes timezone."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from tallybook.domain import BillingCycle

from .vendor_cases import AnyCase, Case, CaseRun, ExpectedTotal, Query
from .vendor_meter import Part


class RequestedPeriod(Part):
    """The period of a cycle that contains a moment."""

    interval: str
    timezone: str
    contains: datetime


class Bounds(Part):
    """The end of a period, and its start if the case has it."""

    start: datetime | None = None
    end: datetime


class LocalBounds(Bounds):
    """The bounds of a month in a timezone."""

    timezone: str


class PeriodBounds(AnyCase):
    """A case about the bounds of one period."""

    kind: Literal["period_bounds"]
    query: None
    expected: None
    period: RequestedPeriod
    expected_period: Bounds


class TimezoneChange(AnyCase):
    """A case of a customer who changes timezone: the periods in order, and the usage in the last one."""

    kind: Literal["timezone_change"]
    query: None
    expected: None
    periods: list[LocalBounds]
    expected_total_second_period: Decimal


def check_period_bounds(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Check the bounds of a period; `in_one_batch` has no effect."""
    case = PeriodBounds.model_validate(stored)
    period = BillingCycle(case.period.interval, case.period.timezone).period_containing(case.period.contains)
    _check_bounds(period, case.expected_period)


def check_timezone_change(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Check that each period starts at the end of the previous one, and that usage between their clocks counts."""
    case = TimezoneChange.model_validate(stored)
    first, *later = case.periods
    period = BillingCycle("month", first.timezone).period_containing(first.end - timedelta(microseconds=1))
    _check_bounds(period, first)
    for following in later:
        period = BillingCycle("month", following.timezone).next_period(period[1])
        _check_bounds(period, following)
    (customer,) = {event.customer for event in case.events}
    totals_case = Case(
        **{field: getattr(case, field) for field in AnyCase.model_fields},
        kind="aggregate",
        query=Query(customer=customer, start=period[0], end=period[1], window=None),
        expected=[ExpectedTotal(value=case.expected_total_second_period)],
    )
    CaseRun(totals_case, in_one_batch=in_one_batch).check()


def _check_bounds(period: tuple[datetime, datetime], expected: Bounds) -> None:
    assert period == (expected.start or period[0], expected.end)
