"""The part of a billing run on one meter: closes its customers in batches, and computes its control total."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from operator import attrgetter

from eventsourcing.persistence import IntegrityError

from ...domain.billing_run import BillingRun, ControlTotal
from ...domain.customer_periods import CustomerPeriods, check_overlap
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.errors import PeriodOverlaps, RulesChangeInRange, TallybookError
from ...domain.timestamps import from_microseconds, to_microseconds
from ...domain.totals import Totals
from ...projections.models import AsOf
from ...projections.usage_view import CustomerUsage, UsageView
from ..billing_results import RunDifference, RunDifferenceReason
from ..interruption import check_interruption
from ..ledger.closings import CustomerClosings, billing_runs, closings_of, read_closings
from ..ledger.ledger import Ledger
from ..queries.dimension_query import DimensionArguments
from ..queries.meter_query import OpenMeter
from ..queries.period_totals import PeriodTotalsFactory

CUSTOMERS_PER_TRANSACTION = 500
MAX_LISTED_DIFFERENCES = 1_000

RunProgress = Callable[[int, int, str], None]
"""Called with the work that is done, all work, and the meter that is being closed."""


class _Outcome:
    """What happened to the customers of a batch. It is dropped if the batch has to be repeated."""

    def __init__(self) -> None:
        self.events: list[CustomerPeriods.PeriodClosed] = []
        self.differences: list[RunDifference] = []
        self.closed_before: list[str] = []


class MeterRun:
    """Closes the period of a run for all customers of one meter with usage in it."""

    def __init__(self, ledger: Ledger, run: BillingRun, event_name: str, now: Callable[[], datetime]) -> None:
        self.event_name = event_name
        self.differences: list[RunDifference] = []
        self.difference_count = 0
        self._ledger = ledger
        self._run = run
        self._now = now
        self._bounds = to_microseconds(run.start), to_microseconds(run.end)
        self._usage = Totals()
        self._closed_before: set[str] = set()
        self._not_closed = self._late = 0
        self._earlier = _earlier_run(billing_runs(ledger), run, event_name)

    def close_all(self, meter: OpenMeter) -> Iterator[int]:
        """Close the period of each customer. Yield the last customer id of each batch, in order."""
        as_of = meter.as_of
        query = meter.query(self._bounds, DimensionArguments({}, self._run.group_by))
        self._usage = query.view.totals_of_all(*self._bounds, as_of)
        usages = query.view.usage_by_customer(*self._bounds, as_of)
        try:
            factory = PeriodTotalsFactory(query)
        except RulesChangeInRange as error:
            self._not_closed = sum(bool(usage.counted()) for usage in usages)
            if self._not_closed:
                self._add_difference(self._difference(None, RunDifferenceReason.NOT_CLOSED, self._usage, error))
            return
        while batch := list(islice(usages, CUSTOMERS_PER_TRANSACTION)):
            check_interruption()
            self._close_batch(query.view, factory, batch)
            yield batch[-1].customer_id

    def _close_batch(self, view: UsageView, factory: PeriodTotalsFactory, batch: Sequence[CustomerUsage]) -> None:
        names = view.customer_names([usage.customer_id for usage in batch])
        while True:
            known = closings_of(self._ledger.ledger_recorder, self.event_name, list(names.values()))
            outcome = _Outcome()
            at = self._now()
            for usage in batch:
                name = names[usage.customer_id]
                self._close(factory, usage, name, known.get(name) or CustomerClosings(name, 0, []), at, outcome)
            try:
                events = sorted(outcome.events, key=attrgetter("originator_version"))
                self._ledger.append(events, {self._run.id: 1})
            except IntegrityError:
                continue  # another process closed or reopened a period of a customer meanwhile
            break
        self._closed_before.update(outcome.closed_before)
        for difference in outcome.differences:
            self._add_difference(difference)
            self._not_closed += difference.reason is RunDifferenceReason.NOT_CLOSED
            self._late += difference.reason is RunDifferenceReason.LATE

    def _close(
        self, factory: PeriodTotalsFactory, usage: CustomerUsage, customer: str, known: CustomerClosings, at: datetime,
        outcome: _Outcome,
    ) -> None:  # fmt: skip
        exact = known.find(self._bounds)
        if exact is not None and exact.closing.position == self._run.position:
            return  # closed by this run, before it was interrupted
        counted = usage.counted()
        if exact is not None:
            outcome.closed_before.append(customer)
            frozen = Totals(exact.closing.sum, exact.closing.count)
            difference = self._difference(
                customer, RunDifferenceReason.CLOSED_BEFORE, _subtract(Totals.from_usage(counted), frozen)
            )
            if difference.sum or difference.count:
                outcome.differences.append(difference)
            return
        if not counted:
            return
        if self._earlier is not None and not usage.counted(self._earlier):
            outcome.differences.append(self._difference(customer, RunDifferenceReason.LATE, Totals.from_usage(counted)))
            return
        try:
            check_overlap(
                ((from_microseconds(start), from_microseconds(end)) for start, end in _bounds_of(known)),
                self._run.start, self._run.end,
            )  # fmt: skip
        except PeriodOverlaps as error:
            totals = Totals.from_usage(counted)
            outcome.differences.append(self._difference(customer, RunDifferenceReason.NOT_CLOSED, totals, error))
            return
        outcome.events.append(
            CustomerPeriods.close_at_version(
                self.event_name, customer, known.version, (self._run.start, self._run.end), factory.totals(counted),
                at=at,
            )
        )  # fmt: skip

    def control_total(self, customers: set[str]) -> ControlTotal:
        """Return the control total, from all stored closings of the period. Add their customers to `customers`."""
        closed = closed_before = count = 0
        quantity = billable = total = ZERO
        for known in read_closings(self._ledger.ledger_recorder, self.event_name):
            exact = known.find(self._bounds)
            if exact is None:
                continue
            closing = exact.closing
            customers.add(known.customer)
            closed += 1
            count += closing.count
            quantity, billable = (
                EXACT_CONTEXT.add(quantity, closing.quantity),
                EXACT_CONTEXT.add(billable, closing.billable),
            )
            total = EXACT_CONTEXT.add(total, closing.sum)
            if closing.position != self._run.position:
                closed_before += 1
                if known.customer not in self._closed_before and (closing.count or closing.sum):
                    frozen = _subtract(Totals(), Totals(closing.sum, closing.count))
                    self._add_difference(self._difference(known.customer, RunDifferenceReason.CLOSED_BEFORE, frozen))
        return ControlTotal(
            event_name=self.event_name, customers=closed, closed_before=closed_before, quantity=quantity,
            billable=billable, sum=total, count=count, usage_sum=self._usage.sum, usage_count=self._usage.count,
            not_closed=self._not_closed, late=self._late,
        )  # fmt: skip

    def _difference(
        self, customer: str | None, reason: RunDifferenceReason, totals: Totals, error: TallybookError | None = None
    ) -> RunDifference:
        return RunDifference(self.event_name, customer, reason, totals.sum, totals.count, error)

    def _add_difference(self, difference: RunDifference) -> None:
        self.difference_count += 1
        if len(self.differences) < MAX_LISTED_DIFFERENCES:
            self.differences.append(difference)


def _earlier_run(runs: Sequence[BillingRun], run: BillingRun, event_name: str) -> AsOf | None:
    """Return the position of the first closed run of the same period and meter; None if there is none.

    A customer without usage then is late: an adjustment of that run.
    """
    positions = [
        earlier.position
        for earlier in runs
        if earlier.is_closed and earlier.number < run.number and event_name in earlier.event_names
        and (earlier.start, earlier.end) == (run.start, run.end)
    ]  # fmt: skip
    return AsOf(position=min(positions)) if positions else None


def _bounds_of(known: CustomerClosings) -> Iterator[tuple[int, int]]:
    return (closing.bounds for closing in known.closings)


def _subtract(totals: Totals, frozen: Totals) -> Totals:
    return Totals(EXACT_CONTEXT.subtract(totals.sum, frozen.sum), totals.count - frozen.count)
