"""Compares the control totals of closed billing runs with the closings and the usage that they add up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from ...domain.billing_run import BillingRun, ControlTotal
from ...domain.decimals import EXACT_CONTEXT, ZERO
from ...domain.timestamps import to_microseconds
from ...domain.totals import Totals
from ...projections.models import AsOf
from ...projections.ports import ReadModelReader
from ..ledger.closings import Closing, billing_runs, closing_changes, run_end_positions
from ..ledger.ledger import Ledger
from .meter_query import Bounds, MeterQueryFactory


@dataclass(frozen=True, slots=True)
class ControlTotalDifference:
    """A control total of a billing run that differs from the sums of the closings and of the usage in the ledger.

    `found` is the stored one, None if it is missing.
    """

    run: int
    event_name: str
    found: ControlTotal | None
    expected: ControlTotal


class _ClosingSums:
    """The sums over the closings of one period, while closings are added and reopened."""

    def __init__(self, run_position: int) -> None:
        self._run_position = run_position
        self._closings: dict[str, Closing] = {}
        self._quantity = self._billable = self._sum = ZERO
        self._count = self._closed_before = 0

    def apply(self, stream: str, closing: Closing | None) -> None:
        """Add the closing of a customer; remove it if it is None."""
        reopened = self._closings.pop(stream, None)
        if closing is not None:
            self._closings[stream] = closing
        for changed, operation, sign in ((reopened, EXACT_CONTEXT.subtract, -1), (closing, EXACT_CONTEXT.add, 1)):
            if changed is not None:
                self._quantity = operation(self._quantity, changed.quantity)
                self._billable = operation(self._billable, changed.billable)
                self._sum = operation(self._sum, changed.sum)
                self._count += sign * changed.count
                self._closed_before += sign * (changed.position != self._run_position)

    def control_total(self, event_name: str, usage: Totals, found: ControlTotal | None) -> ControlTotal:
        """Return the control total; what isn't a sum is that of `found`."""
        return ControlTotal(
            event_name=event_name, customers=len(self._closings), closed_before=self._closed_before,
            quantity=self._quantity, billable=self._billable, sum=self._sum, count=self._count,
            usage_sum=usage.sum, usage_count=usage.count,
            not_closed=found.not_closed if found else 0, late=found.late if found else 0,
        )  # fmt: skip


_Change = tuple[int, str, Closing | None]
"""The position of a closing or a reopening, its stream, and the closing."""


class ControlTotalComparer:
    """Compares the control totals of the billing runs of a ledger."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries

    def closed_runs(self, position: int) -> list[BillingRun]:
        """Return the billing runs that were closed up to a position of the ledger."""
        return [run for run in billing_runs(self._ledger, AsOf(position)) if run.is_closed]

    def differences(self, read_models: ReadModelReader, runs: Sequence[BillingRun]) -> Iterator[ControlTotalDifference]:
        """Yield the control totals of closed runs that differ. The usage is read from read models that are right."""
        ends = run_end_positions(self._ledger.ledger_recorder)
        for event_name in sorted({event_name for run in runs for event_name in run.event_names}):
            of_meter = [run for run in runs if event_name in run.event_names]
            changes: dict[Bounds, list[_Change]] = {_bounds(run): [] for run in of_meter}
            for stored_at, stream, bounds, closing in closing_changes(self._ledger.ledger_recorder, event_name):
                if bounds in changes:
                    changes[bounds].append((stored_at, stream, closing))
            for run in of_meter:
                found = next((total for total in run.meters if total.event_name == event_name), None)
                meter = self._meter_queries.open_meter(read_models, event_name, AsOf(run.position))
                view = meter.query(_bounds(run)).view
                usage = view.totals_of_all(*view.bounds, meter.as_of)
                known = [change for change in changes[_bounds(run)] if change[0] < ends[run.id]]
                expected = list(_control_totals(run, event_name, sorted(known, key=itemgetter(0)), usage, found))
                if found not in expected:
                    yield ControlTotalDifference(run.number, event_name, found, expected[-1])


def _control_totals(
    run: BillingRun, event_name: str, changes: Sequence[_Change], usage: Totals, found: ControlTotal | None
) -> Iterator[ControlTotal]:
    """Yield what the control total of a run may be, given the changes of closings up to its end.

    A run reads the closings after it has stored its own: another process can close or reopen a period before the run
    ends, and after it has read that.
    """
    seen = 0
    for number, (stored_at, _, closing) in enumerate(changes, 1):
        if stored_at <= run.position or (closing is not None and closing.position == run.position):
            seen = number
    sums = _ClosingSums(run.position)
    for index, (_, stream, closing) in enumerate(changes):
        if index >= seen:
            yield sums.control_total(event_name, usage, found)
        sums.apply(stream, closing)
    yield sums.control_total(event_name, usage, found)


def _bounds(run: BillingRun) -> Bounds:
    return to_microseconds(run.start), to_microseconds(run.end)
