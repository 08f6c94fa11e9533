"""A query of what the closing of a period counted, under its rules."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime

from ...domain.closed_period import ClosedPeriod
from ...domain.customer_periods import period_not_closed
from ...domain.errors import InvalidParameter
from ..ledger.ledger import Ledger
from ..validation import require_event_name
from .dimension_query import NO_DIMENSIONS, DimensionArguments
from .meter_query import MeterQuery, MeterQueryFactory
from .range_views import bounds_of, under_rules_of


@contextmanager
def query_closed_period(
    ledger: Ledger,
    meter_queries: MeterQueryFactory,
    event_name: str,
    customer: str | None,
    start: datetime,
    end: datetime,
    as_of: datetime | int | None,
    dimensions: DimensionArguments,
) -> Generator[MeterQuery]:
    """Open a query of what a closing counted, as of its position. Raises PeriodNotClosed or InvalidParameter."""
    event_name = require_event_name(event_name)
    if customer is None:
        raise InvalidParameter("Name the customer whose closed period is explained.", field="customer")
    if as_of is not None:
        raise InvalidParameter(
            "A closed period is explained as of the position of its closing. Leave out 'as_of' or 'closed'.",
            field="as_of",
            value=as_of,
        )
    periods = ledger.customer_periods(event_name, customer)
    closed = None if periods is None else periods.find_closed(start, end)
    if closed is None:
        ledger.meter(event_name)
        raise period_not_closed(event_name, customer, start, end)
    with query_closing(meter_queries, closed, closed.position, dimensions) as query:
        yield query


@contextmanager
def query_closing(
    meter_queries: MeterQueryFactory,
    closed: ClosedPeriod,
    position: int,
    dimensions: DimensionArguments = NO_DIMENSIONS,
) -> Generator[MeterQuery]:
    """Open a query of the range of a closing under its rules, as known at a position."""
    counted = bounds_of(closed)
    with meter_queries.open(closed.event_name, position) as meter:
        yield under_rules_of(meter, counted, closed.rules, closed.revision).closing_query(counted, dimensions)
