"""Closed periods and what is owed on them: the signed difference since each was closed."""

import builtins
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from operator import attrgetter

from ...domain.closed_period import ClosedPeriod
from ...domain.customer_periods import CustomerPeriods
from ...domain.errors import InvalidIdentifier
from ...domain.rules_schedule import RulesSchedule
from ...domain.timestamps import to_microseconds
from ...projections.models import AsOf
from ...projections.ports import ReadModelReader
from ..adjustment_results import Adjustment, PeriodGap
from ..billing_results import BillingRunView, PeriodStatus
from ..ledger.closings import billing_runs
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..validation import (
    optional_customer,
    optional_time_range,
    require_event_name,
    require_int,
    require_text,
    require_texts,
    require_time_range,
)
from .changed_periods import ChangedPeriods
from .completeness import Completeness
from .dimension_query import NO_DIMENSIONS, DimensionArguments, Where, parse_dimensions
from .gaps import compute_gaps, gaps_by_range
from .meter_query import MeterQueryFactory
from .period_adjustment import AdjustmentCalculator, EventRange

_OpenBounds = tuple[int | None, int | None]
"""The first and the last microsecond of a range that may be open at either end."""


class PeriodQueries:
    """Reads closed periods and computes their adjustments."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries

    @retry_on_connection_loss
    def adjustments(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
        settled: bool = False,
        max_events: int | None = None,
        events_after: str | None = None,
        events_before: str | None = None,
    ) -> list[Adjustment]:
        """Return what is owed, signed, on each closed period that overlaps [start, end), with the events behind it.

        Totals are computed under the rules that the period was closed under; the difference that the current rules
        would make is reported in `rules_difference` and not owed. A closed period without changes since it was closed,
        or since its last settlement, has no adjustment; with `settled`, periods with settlements are included.

        A customer without a closing in a range that was billed, by a run or one by one, whose usage there was all
        recorded afterwards, has an adjustment of a period with the quantity 0; `is_late` is set in it.

        `where` selects usage by its dimension values, and `group_by` adds the part of each combination of the values of
        these dimensions. Both name dimensions of the rules that the periods were closed under. With `max_events`, each
        adjustment has only the first of its events, and takes less memory; `event_count` is the number of all.
        `events_after` and `events_before` are identifiers of meter events, to read further ones: the first after one,
        or the last before one. Raises InvalidIdentifier if no such event is recorded.
        """
        with self.read_adjustments(
            event_name, customer, start=start, end=end, as_of=as_of, where=where, group_by=group_by, settled=settled,
            max_events=max_events, events_after=events_after, events_before=events_before,
        ) as adjustments:  # fmt: skip
            return sorted(adjustments, key=lambda adjustment: (adjustment.period.customer, adjustment.period.start))

    @contextmanager
    def read_adjustments(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
        settled: bool = False,
        max_events: int | None = None,
        events_after: str | None = None,
        events_before: str | None = None,
    ) -> Generator[Iterator[Adjustment]]:
        """Open the adjustments that `adjustments` returns, to read one after another, in any order.

        So the adjustments of many customers need not be in memory at once.
        """
        event_name, customer = require_event_name(event_name), optional_customer(customer)
        max_events = None if max_events is None else require_int(max_events, "max_events", 0, 2**31)
        bounds, known = optional_time_range(start, end), self._meter_queries.as_of(as_of)
        dimensions = parse_dimensions(where, group_by)
        after = None if events_after is None else self._place_of(events_after, "events_after")
        before = None if events_before is None else self._place_of(events_before, "events_before")
        events = EventRange(max_events, after, before)
        with closing(
            self._adjustments(event_name, customer, bounds, known, dimensions, with_settled=settled, events=events)
        ) as adjustments:
            yield adjustments

    def _place_of(self, identifier: str, field: str) -> tuple[int, int]:
        """Return the time and position of a meter event. Raises InvalidIdentifier."""
        identifier = require_text(identifier, field, 100)
        stored = self._ledger.find_meter_events((identifier,)).get(identifier)
        if stored is None:
            raise InvalidIdentifier(
                f"No meter event is recorded under the identifier {identifier!r}.", field=field, value=identifier
            )
        return to_microseconds(stored.data.occurred_at), stored.position

    def _adjustments(
        self,
        event_name: str,
        customer: str | None,
        bounds: _OpenBounds,
        known: AsOf | None,
        dimensions: DimensionArguments,
        *,
        with_settled: bool = False,
        since_closing: bool = True,
        events: EventRange,
    ) -> Generator[Adjustment]:
        with self._meter_queries.session() as read_models:
            known_or_head = known or AsOf(position=read_models.position())
            meter = self._meter_queries.open_meter(read_models, event_name, known)
            meter = meter._replace(as_of=known_or_head)
            schedule_at, is_partial = self._schedule_at(read_models, event_name), dimensions is not NO_DIMENSIONS
            runs = billing_runs(self._ledger, known_or_head)
            changed = ChangedPeriods(
                self._ledger, meter, schedule_at, runs, is_partial=is_partial, with_settled=with_settled
            )
            calculator = AdjustmentCalculator(self._ledger, meter, dimensions, with_settled=with_settled)
            for period, is_late in changed.find(customer, bounds):
                adjustment = calculator.adjustment(period, is_late=is_late, since_closing=since_closing, events=events)
                if adjustment is not None and (
                    adjustment.is_open or adjustment.rules_difference or (with_settled and period.settlements)
                ):
                    yield adjustment

    @retry_on_connection_loss
    def status(
        self,
        start: datetime,
        end: datetime,
        *,
        meters: Sequence[str] | None = None,
        as_of: datetime | int | None = None,
        limit: int | None = 1_000,
    ) -> PeriodStatus:
        """Return whether all usage in [start, end) is billed, on some meters, on all if None, and what is not.

        Usage is billed if it is in a closed period, or owed as an adjustment. Usage that a rule change moved to another
        customer is not billed for that one. Each list has up to `limit` entries, all if None.
        """
        bounds, known = require_time_range(start, end).bounds, self._meter_queries.as_of(as_of)
        names = None if meters is None else require_texts(meters, "meters", 500, 1_000)
        maximum = None if limit is None else require_int(limit, "limit", 0, 2**31)
        return Completeness(self._ledger, self._meter_queries).status(bounds, names, known, maximum)

    @retry_on_connection_loss
    def runs(self, *, as_of: datetime | int | None = None) -> builtins.list[BillingRunView]:
        """Return the billing runs, in the order in which they were started, also those that were interrupted."""
        return [BillingRunView.from_run(run) for run in billing_runs(self._ledger, self._meter_queries.as_of(as_of))]

    def _schedule_at(self, read_models: ReadModelReader, event_name: str) -> Callable[[int], RulesSchedule]:
        """Return a function that returns the rules of a meter over time as known at a position."""
        open_meter = self._meter_queries.open_meter
        return lambda position: open_meter(read_models, event_name, AsOf(position=position)).schedule

    @retry_on_connection_loss
    def gaps(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
    ) -> list[PeriodGap]:
        """Return the ranges between closed periods of a customer that belong to none of them, with their usage.

        By customer and start; of all customers if None. A gap is returned if it overlaps or adjoins [start, end), so
        the range of a closed period selects the gaps before and after it.
        """
        event_name, customer = require_event_name(event_name), optional_customer(customer)
        bounds, known = optional_time_range(start, end), self._meter_queries.as_of(as_of)
        self._ledger.meter(event_name)
        by_range = gaps_by_range(self._ledger.closed_periods(event_name, customer, known), *bounds)
        if not by_range:
            return []
        with self._meter_queries.open(event_name, known and known.position) as meter:
            return compute_gaps(meter, by_range)

    @retry_on_connection_loss
    def list(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        reopened: bool = False,
    ) -> list[ClosedPeriod]:
        """Return the closed periods that overlap [start, end), by customer and start; of all customers if None.

        With `reopened`, periods that were closed and reopened since are included.
        """
        periods = self.iterate(event_name, customer, start=start, end=end, as_of=as_of, reopened=reopened)
        return sorted(periods, key=lambda period: (period.customer, period.start))

    @retry_on_connection_loss
    def iterate(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        reopened: bool = False,
    ) -> Iterator[ClosedPeriod]:
        """Yield the closed periods that `list` returns, one customer after another in any order, each by start.

        So many periods with many groups need not be in memory at once.
        """
        event_name, customer = require_event_name(event_name), optional_customer(customer)
        bounds, known = optional_time_range(start, end), self._meter_queries.as_of(as_of)
        self._ledger.meter(event_name)
        of_customers = self._ledger.closed_periods(event_name, customer, known)
        overlapping = (period for periods in of_customers for period in _overlapping(periods, bounds))
        return (period for period in overlapping if reopened or period.is_closed)


def _overlapping(periods: CustomerPeriods, bounds: _OpenBounds) -> list[ClosedPeriod]:
    """Return the closings of a customer that overlap `bounds`, reopened ones too, by start and order of closing."""
    first, last = bounds
    overlapping = [
        period
        for period in periods.closed_periods
        if (first is None or to_microseconds(period.end) > first)
        and (last is None or to_microseconds(period.start) < last)
    ]
    return sorted(overlapping, key=attrgetter("start"))
