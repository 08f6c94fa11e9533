"""The lines for the invoices of a period: the usage that was closed, and the open adjustments of earlier periods."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache, cached_property, partial, reduce
from itertools import islice
from typing import NamedTuple

from ...domain.billing_run import BillingRun
from ...domain.closed_period import ClosedPeriod
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.rules_schedule import RulesSchedule
from ...domain.timestamps import to_microseconds
from ...projections.models import AsOf
from ...projections.ports import ReadModelReader
from ..adjustment_results import Adjustment
from ..interruption import check_between
from ..invoice_results import InvoiceLine, InvoiceLineKind
from ..ledger.closings import billing_runs, closed_periods, read_closings
from ..ledger.ledger import Ledger
from .changed_periods import ChangedPeriods
from .dimension_query import DimensionArguments
from .meter_query import Bounds, MeterQueryFactory, OpenMeter
from .period_adjustment import AdjustmentCalculator, EventRange
from .period_totals import group_keys, totals_at
from .range_views import bounds_of, under_rules_of

_CLOSINGS_PER_READ = 2_000


class AdjustmentLines(NamedTuple):
    """An open adjustment of an earlier period, without its events, and its lines.

    Its roll-forward begins at the last settlement.
    """

    adjustment: Adjustment
    lines: list[InvoiceLine]


class MeterInvoiceLines:
    """The lines of a period on one meter, as known at a point in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        meter_queries: MeterQueryFactory,
        read_models: ReadModelReader,
        event_name: str,
        customer: str | None,
        as_of: AsOf,
        runs: Sequence[BillingRun],
    ) -> None:
        """Read the lines of a meter as of `as_of`, when these were all billing `runs` of the ledger."""
        self._ledger = ledger
        self._customer = customer
        self._event_name = event_name
        self._as_of = as_of
        self._runs = runs
        self._meter = meter_queries.open_meter(read_models, event_name, as_of)
        self._open: Callable[[AsOf], OpenMeter] = cache(partial(meter_queries.open_meter, read_models, event_name))

    def usage(self, bounds: Bounds) -> Iterator[InvoiceLine]:
        """Yield the usage of the closed periods that end after the start of a range, up to its end.

        A closing without usage has no line, unless it replaces one that was reopened.
        """
        recorder, (start, end) = self._ledger.ledger_recorder, bounds
        closings = (
            (closing, known.reopened.get(closing.bounds))
            for known in read_closings(recorder, self._event_name, self._customer, self._as_of)
            for closing in known.closings
            if start < closing.bounds[1] <= end and (closing.closing.count or closing.bounds in known.reopened)
        )
        while batch := list(islice(closings, _CLOSINGS_PER_READ)):
            withdrawn = closed_periods(recorder, [reopened for _, reopened in batch if reopened is not None])
            billed = {(period.customer, *_period_bounds(period)): self._billed(period) for period in withdrawn}
            for period in closed_periods(recorder, [closing for closing, _ in batch]):
                yield from _usage_lines(period, billed.get((period.customer, *_period_bounds(period))))

    def _billed(self, reopened: ClosedPeriod) -> Decimal:
        """Return what the withdrawn documents of a period billed; those by dimensions have a line for each group."""
        keys = self._line_keys(reopened)
        if not keys:
            return reopened.invoiced.billable
        groups = reopened.groups
        if reopened.settlements:
            meter = under_rules_of(self._meter, bounds_of(reopened), reopened.rules, reopened.revision)
            groups = totals_at(meter, reopened, reopened.invoiced.position, keys).groups
        return reduce(EXACT_CONTEXT.add, (group.billable for group in groups), ZERO)

    def _line_keys(self, period: ClosedPeriod) -> tuple[str, ...]:
        """Return the dimensions of the lines of a period: those of its groups, or without usage those of a run."""
        return group_keys(period) if period.count else self._keys_of_runs.get(_period_bounds(period), ())

    def adjustments(self, until: int) -> Iterator[AdjustmentLines]:
        """Yield the open adjustments of the closed periods that end at a time in microseconds, or before."""
        changed = ChangedPeriods(
            self._ledger, self._meter, self._schedule_at, self._runs, is_partial=False, with_settled=False
        )
        calculators: dict[tuple[str, ...], AdjustmentCalculator] = {}
        for period, is_late in check_between(changed.find(self._customer, (None, until))):
            if to_microseconds(period.end) > until:
                continue
            group_by = self._line_keys(period)
            if group_by not in calculators:
                dimensions = DimensionArguments({}, group_by)
                calculators[group_by] = AdjustmentCalculator(self._ledger, self._meter, dimensions)
            adjustment = calculators[group_by].adjustment(
                period, is_late=is_late, since_closing=False, events=EventRange(max_events=0)
            )
            if adjustment is not None and adjustment.is_open:
                yield AdjustmentLines(adjustment, list(_adjustment_lines(adjustment)))

    def _schedule_at(self, position: int) -> RulesSchedule:
        return self._open(AsOf(position=position)).schedule

    @cached_property
    def _keys_of_runs(self) -> Mapping[Bounds, tuple[str, ...]]:
        """The dimensions of the billing runs, by their bounds."""
        return {
            (to_microseconds(run.start), to_microseconds(run.end)): run.group_by
            for run in self._runs
            if self._event_name in run.event_names
        }


def _period_bounds(period: ClosedPeriod) -> Bounds:
    return to_microseconds(period.start), to_microseconds(period.end)


def _usage_lines(period: ClosedPeriod, previously_billed: Decimal | None) -> Iterator[InvoiceLine]:
    parts = [(group.dimensions, group.quantity, group.billable) for group in period.groups]
    for dimensions, quantity, billable in parts or [(None, period.quantity, period.billable)]:
        yield InvoiceLine(
            kind=InvoiceLineKind.USAGE, event_name=period.event_name, customer=period.customer, start=period.start,
            end=period.end, dimensions=dimensions, quantity=quantity, billable=billable, position=period.position,
            digest=period.digest, previously_billed=previously_billed,
        )  # fmt: skip
        previously_billed = None


def _adjustment_lines(adjustment: Adjustment) -> Iterator[InvoiceLine]:
    period = adjustment.period
    parts = [
        (group.dimensions, group.difference, group.billable, group.billable_difference) for group in adjustment.groups
    ]
    whole = (None, adjustment.difference, adjustment.billable, adjustment.billable_difference)
    for dimensions, difference, billable, billable_difference in parts or [whole]:
        if difference != ZERO or billable_difference != ZERO:
            yield InvoiceLine(
                kind=InvoiceLineKind.ADJUSTMENT, event_name=period.event_name, customer=period.customer,
                start=period.start, end=period.end, dimensions=dimensions, quantity=difference,
                billable=billable_difference, position=adjustment.position, digest=period.digest,
                previously_billed=EXACT_CONTEXT.subtract(billable, billable_difference), is_late=adjustment.is_late,
            )  # fmt: skip


class InvoiceLineReader:
    """Reads the lines for the invoices of a period one after another, in any order, as of `position`."""

    def __init__(
        self,
        ledger: Ledger,
        meter_queries: MeterQueryFactory,
        read_models: ReadModelReader,
        bounds: Bounds,
        event_names: Sequence[str] | None,
        customer: str | None,
        as_of: AsOf | None,
    ) -> None:
        """Read the lines of a period on some meters, on all if None, of one or all customers. Raises MeterNotFound."""
        head = read_models.position()
        self.position = head if as_of is None else min(head, as_of.position)
        self._bounds = bounds
        known = AsOf(position=self.position)
        names = [meter.event_name for meter in ledger.meters(known)] if event_names is None else event_names
        runs = billing_runs(ledger, known)
        self._meters = [
            MeterInvoiceLines(ledger, meter_queries, read_models, name, customer, known, runs) for name in names
        ]

    def usage(self) -> Iterator[InvoiceLine]:
        """Yield the usage of the closed periods that end in the period."""
        return (line for meter in self._meters for line in meter.usage(self._bounds))

    def adjustments(self) -> Iterator[InvoiceLine]:
        """Yield the open adjustments of the periods that end before."""
        return (line for _, lines in self.open_adjustments() for line in lines)

    def open_adjustments(self) -> Iterator[AdjustmentLines]:
        """Yield these adjustments with their lines."""
        return (found for meter in self._meters for found in meter.adjustments(self._bounds[0]))
