"""The part of a billing run on one meter: closes its customers in batches, and computes its control total."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from itertools import groupby, islice
from operator import attrgetter, itemgetter

from eventsourcing.persistence import IntegrityError

from ...domain.billing_run import BillingRun, ControlTotal
from ...domain.closed_bounds import check_overlap
from ...domain.closed_period import PeriodTotals
from ...domain.counting import UsageRecord
from ...domain.customer_periods import CustomerPeriods
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.errors import PeriodOverlaps, RulesChangeInRange, TallybookError
from ...domain.timestamps import from_microseconds, to_microseconds
from ...domain.totals import Totals
from ...projections.models import AsOf
from ...projections.usage_view import CustomerUsage
from ..billing_results import RunDifference, RunDifferenceReason
from ..interruption import check_interruption
from ..ledger.closings import CustomerClosings, StoredClosing, closing_changes, closings_of, read_closings
from ..ledger.ledger import Ledger
from ..queries.billed_ranges import ClosingsIndex, decode_rules, late_customers, ranges_of_runs
from ..queries.dimension_query import DimensionArguments
from ..queries.meter_query import Bounds, MeterQuery, OpenMeter
from ..queries.period_totals import PeriodTotalsFactory, counted_usage
from ..queries.range_views import under_rules_of

CUSTOMERS_PER_TRANSACTION = 500
MAX_LISTED_DIFFERENCES = 1_000

RunProgress = Callable[[int, int, str], None]
"""Called with the work that is done, all work, and the meter that is being closed."""


class _Outcome:
    """What happened to the customers of a batch. It is dropped if the batch has to be repeated."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.events: list[CustomerPeriods.PeriodClosed] = []
        self.differences: list[RunDifference] = []
        self.closed_before: list[str] = []

    def add_difference(self, difference: RunDifference, *, always: bool = False) -> None:
        """Add a difference, unless it is zero."""
        if always or difference.sum or difference.count:
            self.differences.append(difference)


class MeterRun:
    """Closes the period of a run for all customers of one meter with usage in it."""

    def __init__(
        self,
        ledger: Ledger,
        run: BillingRun,
        event_name: str,
        by: str | None,
        now: Callable[[], datetime],
        runs: Sequence[BillingRun],
    ) -> None:
        """Close one meter of `run`. `runs` are all billing runs of the ledger, which are read once for all meters."""
        self.event_name = event_name
        self.differences: list[RunDifference] = []
        self.difference_count = 0
        self._ledger = ledger
        self._run = run
        self._by = by
        self._now = now
        self._bounds = to_microseconds(run.start), to_microseconds(run.end)
        self._usage = Totals()
        self._closed_before: set[str] = set()
        self._not_closed = self._late = 0
        self._earlier_runs = [earlier for earlier in runs if earlier.number < run.number]
        self._late_customers: Set[str] = frozenset()

    def close_all(self, meter: OpenMeter) -> Iterator[int]:
        """Close the period of each customer. Yield the last customer id of each batch, in order."""
        query = self._query(meter, None)
        counted = query.view.bounds
        self._usage = query.view.totals_of_all(*counted, meter.as_of)
        usages = query.view.usage_by_customer(*counted, meter.as_of)
        try:
            factory = PeriodTotalsFactory(query, self._run.start, self._run.end)
        except RulesChangeInRange as error:
            self._not_closed = sum(bool(usage.counted()) for usage in usages)
            if self._not_closed:
                self._add_difference(self._difference(None, RunDifferenceReason.NOT_CLOSED, self._usage, error))
            return
        self._late_customers = self._find_late_customers(meter)
        singly = self._computed_singly(meter, counted, query.revision)
        while batch := list(islice(usages, CUSTOMERS_PER_TRANSACTION)):
            names = query.view.customer_names([usage.customer_id for usage in batch])
            self._close_batch(meter, factory, {names[usage.customer_id]: usage for usage in batch}, counted)
            singly.difference_update(names.values())
            yield batch[-1].customer_id
        others = iter(sorted(singly))
        while remaining := list(islice(others, CUSTOMERS_PER_TRANSACTION)):
            without_usage = {customer: CustomerUsage(0, counted, ()) for customer in remaining}
            self._close_batch(meter, factory, without_usage, counted)

    def _query(self, meter: OpenMeter, counted: Bounds | None) -> MeterQuery:
        """Return a query of the windows that start in the period, or of the range of the usage of one customer."""
        dimensions = DimensionArguments({}, self._run.group_by)
        return meter.query(self._bounds, dimensions) if counted is None else meter.closing_query(counted, dimensions)

    def _find_late_customers(self, meter: OpenMeter) -> Set[str]:
        """Return the customers whose usage is an adjustment of an earlier run of the same period.

        As of the position of this run, so that a run that is resumed finds the same ones.
        """
        if not any((run.start, run.end) == (self._run.start, self._run.end) for run in self._earlier_runs):
            return frozenset()
        index, known = ClosingsIndex(), AsOf(position=self._run.position)
        for customer in read_closings(self._ledger.ledger_recorder, self.event_name, None, known):
            index.add(customer.customer, customer.closings)
        ranges = ranges_of_runs(
            self.event_name, self._earlier_runs, index.ranges,
            lambda position: meter.views.schedule(AsOf(position=position)),
        )  # fmt: skip
        return {
            customer
            for billed in ranges
            if billed.bounds == self._bounds
            for customer in late_customers(meter, billed, index.has_closing)
        }

    def _computed_singly(self, meter: OpenMeter, counted: Bounds, revision: int) -> set[str]:
        """Return the customers that are computed one by one.

        They were closed under other rules: their closings leave another range to count than that of the windows in the
        period, or the period was reopened.
        """
        if not meter.views.has_windows and not meter.views.has_changed_rules:
            return set()
        return {
            known.customer
            for known in read_closings(self._ledger.ledger_recorder, self.event_name)
            if known.counted_range(self._bounds, counted) != counted or self._previous(known, revision) is not None
        }

    def _previous(self, known: CustomerClosings, revision: int) -> StoredClosing | None:
        """Return the closing of the period that was reopened, if it was closed under other rules."""
        previous = None if known.find(self._bounds) is not None else known.reopened.get(self._bounds)
        return None if previous is None or previous.closing.revision == revision else previous

    def _close_batch(
        self, meter: OpenMeter, factory: PeriodTotalsFactory, usages: Mapping[str, CustomerUsage], counted: Bounds
    ) -> None:
        check_interruption()
        revision = factory.revision
        while True:
            closings = closings_of(self._ledger.ledger_recorder, self.event_name, list(usages))
            outcome = _Outcome(self._now())
            for customer, usage in usages.items():
                known = closings.get(customer) or CustomerClosings(customer, 0, [])
                counted_range, previous = known.counted_range(self._bounds, counted), self._previous(known, revision)
                if previous is not None:
                    query = self._query_under_rules_of(previous, meter, known)
                    self._close_singly(query, known, usage, outcome, RunDifferenceReason.RECLOSED)
                elif counted_range == counted:
                    self._close(known, usage.counted(), factory.totals, outcome)
                else:
                    query = self._query(meter, counted_range)
                    self._close_singly(query, known, usage, outcome, RunDifferenceReason.ADJOINING)
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

    def _query_under_rules_of(self, previous: StoredClosing, meter: OpenMeter, known: CustomerClosings) -> MeterQuery:
        """Return a query under the rules of the previous closing of the period."""
        rules, revision = decode_rules(bytes(previous.closing.rules)), previous.closing.revision
        meter = under_rules_of(meter, previous.counted, rules, revision)
        return self._query(meter, known.counted_range(self._bounds, meter.whole_windows(self._bounds)))

    def _close_singly(
        self,
        query: MeterQuery,
        known: CustomerClosings,
        usage: CustomerUsage,
        outcome: _Outcome,
        reason: RunDifferenceReason,
    ) -> None:
        """Close a customer in the range of a query, and report what differs from the windows of the period."""
        counted = counted_usage(query, known.customer)
        outcome.add_difference(
            self._difference(
                known.customer,
                reason,
                _subtract(Totals.from_usage(usage.counted()), Totals.from_usage(counted)),
            )
        )
        self._close(
            known,
            counted,
            lambda records: PeriodTotalsFactory(query, self._run.start, self._run.end).totals(records),
            outcome,
        )

    def _close(
        self,
        known: CustomerClosings,
        counted: Sequence[UsageRecord],
        totals: Callable[[Sequence[UsageRecord]], PeriodTotals],
        outcome: _Outcome,
    ) -> None:
        exact, customer = known.find(self._bounds), known.customer
        if exact is not None and exact.closing.position == self._run.position:
            return  # closed by this run, before it was interrupted
        usage = Totals.from_usage(counted)
        if exact is not None:
            outcome.closed_before.append(customer)
            difference = _subtract(usage, Totals(exact.closing.sum, exact.closing.count))
            outcome.add_difference(self._difference(customer, RunDifferenceReason.CLOSED_BEFORE, difference))
            return
        if not counted and self._bounds not in known.reopened:
            return
        start, end = self._run.start, self._run.end
        try:
            check_overlap(_bounds_of(known), start, end)
            if customer in self._late_customers:
                outcome.add_difference(self._difference(customer, RunDifferenceReason.LATE, usage), always=True)
                return
            closing = CustomerPeriods.close_at_version(
                self.event_name, customer, known.version, (start, end), totals(counted), at=outcome.at, by=self._by
            )
        except (PeriodOverlaps, RulesChangeInRange) as error:
            not_closed = self._difference(customer, RunDifferenceReason.NOT_CLOSED, usage, error)
            outcome.add_difference(not_closed, always=True)
            return
        outcome.events.append(closing)

    def control_total(self, customers: set[str], closed_after: int) -> ControlTotal:
        """Return the control total, from all stored closings of the period. Add their customers to `customers`.

        They are stored after the position `closed_after`, as the period had not ended at that.
        """
        closed = closed_before = count = 0
        quantity = billable = total = ZERO
        changes = closing_changes(self._ledger.ledger_recorder, self.event_name, closed_after)
        for _, of_customer in groupby(changes, itemgetter(1)):
            of_period = [closing for _, _, bounds, closing in of_customer if bounds == self._bounds]
            closing = of_period[-1] if of_period else None
            if closing is None:
                continue
            customers.add(closing.customer)
            closed += 1
            count += closing.count
            quantity, billable = (
                EXACT_CONTEXT.add(quantity, closing.quantity),
                EXACT_CONTEXT.add(billable, closing.billable),
            )
            total = EXACT_CONTEXT.add(total, closing.sum)
            if closing.position != self._run.position:
                closed_before += 1
                if closing.customer not in self._closed_before and (closing.count or closing.sum):
                    frozen = _subtract(Totals(), Totals(closing.sum, closing.count))
                    self._add_difference(self._difference(closing.customer, RunDifferenceReason.CLOSED_BEFORE, frozen))
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


def _bounds_of(known: CustomerClosings) -> Iterator[tuple[datetime, datetime]]:
    bounds = (closing.bounds for closing in known.closings)
    return ((from_microseconds(start), from_microseconds(end)) for start, end in bounds)


def _subtract(totals: Totals, frozen: Totals) -> Totals:
    return Totals(EXACT_CONTEXT.subtract(totals.sum, frozen.sum), totals.count - frozen.count)
