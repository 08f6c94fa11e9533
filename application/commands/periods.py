"""Closed periods: close a period for an invoice, and reopen it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, cast, get_args

from eventsourcing.persistence import IntegrityError

from ...domain.acceptance_policy import AcceptancePolicy
from ...domain.approval_policy import ChangeKind
from ...domain.closed_period import ClosedPeriod
from ...domain.errors import InvalidParameter, PeriodNotClosed
from ...domain.text import abbreviated_repr
from ...domain.timestamps import from_microseconds
from ..approvals.gate import ApprovalGate
from ..billing_results import BillingRunResult
from ..invoice_results import PeriodPreview
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..queries.customers import require_usage
from ..queries.dimension_query import parse_dimensions
from ..queries.meter_query import MeterQueryFactory
from ..queries.period_totals import compute_period_totals, query_period
from ..storage.ports import ConcurrentStreamUpdate
from ..validation import (
    optional_note,
    require_bool,
    require_customer,
    require_event_name,
    require_text,
    require_time_range,
)
from .billing_runs import BillingRunner, RunArguments
from .invoice_lines import InvoiceLineCommands
from .run_closings import RunProgress

ClosingRules = Literal["previous", "current"]
"""The rules that a reopened period is closed under: those of its previous closing, or the current ones."""


class PeriodCommands(InvoiceLineCommands):
    """The closed periods of a ledger: `metering.periods`."""

    def __init__(
        self,
        ledger: Ledger,
        meter_queries: MeterQueryFactory,
        policy: AcceptancePolicy,
        gate: ApprovalGate,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(ledger, meter_queries, policy, clock)
        self._gate = gate
        self._runner = BillingRunner(ledger, meter_queries, policy, clock)

    def run(
        self,
        start: datetime,
        end: datetime,
        *,
        meters: Sequence[str] | None = None,
        timezone: str = "UTC",
        group_by: Sequence[str] = (),
        by: str | None = None,
        progress: RunProgress | None = None,
    ) -> BillingRunResult:
        """Close [start, end) for all customers with usage of some meters, of all if None; return the control totals.

        Each customer is closed as by `close`, from the events up to one position, the head of the ledger at the start.
        A customer who is closed already stays as it is; one whose closed periods overlap otherwise is not closed, which
        the result reports. A period that was reopened is closed under the rules of its previous closing. From then on,
        usage of a customer without a closing is an adjustment of the run.

        An interrupted run is resumed by the same call. If a run has closed all customers, the same call returns it, and
        meters that were configured since are closed by a run that names them; `status` shows their usage.
        `timezone` is recorded with the run: it names the zone that the bounds were computed in. `progress` is called
        after each batch with the work that is done, all work, and the meter.

        Raises PeriodNotEnded, MeterNotFound, InvalidParameter, or BillingRunInProgress if a run of this period was
        started with other arguments.
        """
        return self._runner.run(RunArguments.parse(start, end, meters, timezone, group_by, by), progress)

    def close(
        self,
        event_name: str,
        customer: str,
        start: datetime,
        end: datetime,
        *,
        group_by: Sequence[str] = (),
        allow_empty: bool = False,
        rules: ClosingRules = "previous",
        by: str | None = None,
    ) -> ClosedPeriod:
        """Freeze the totals of `customer` in [start, end) for an invoice, and return them.

        With `group_by`, the totals by the values of these dimensions are frozen too, as `groups`.

        Meter events and cancellations that arrive later are recorded as usual and never change the closed period:
        `adjustments` returns their difference. Closing a closed period again returns the first result.

        A period that was reopened is closed under the rules of its previous closing, so that a rule change since makes
        no difference; `rules="current"` closes it under today's. `preview` returns the difference first.

        The period has the usage of the event time windows that start in it; see `counted_from` and `counted_until` of
        the result. Raises PeriodNotEnded before the end of the last window and the policy's grace period have passed,
        InvalidTimeRange if no window starts in the period, and PeriodOverlaps if it overlaps another closed period of
        the customer on this meter. Raises CustomerWithoutUsage if the customer never had usage on this meter, unless
        `allow_empty` is set.
        """
        allow_empty, rules = require_bool(allow_empty, "allow_empty"), _require_rules(rules)
        event_name, customer = require_event_name(event_name), require_customer(customer)
        (start, end, _), dimensions = require_time_range(start, end), parse_dimensions(None, group_by)
        by = optional_note(by, "by")
        while True:
            periods = self._customer_periods(event_name, customer)
            closed = periods.find_closed(start, end)
            if closed is not None:
                return closed
            with self._meter_queries.session() as read_models:
                meter = self._meter_queries.open_meter(read_models, event_name)
                if not allow_empty:
                    require_usage(meter, customer)
                previous = periods.find_reopened(start, end) if rules == "previous" else None
                query = query_period(meter, periods, start, end, dimensions, previous)
                totals = compute_period_totals(query, customer, start, end)
            # The clock is read after the totals are computed: no event in them is recorded later than the closing.
            closed = periods.close(start, end, totals, at=self._now(), policy=self._policy, by=by)
            try:
                self._ledger.append(periods.collect_events())
            except IntegrityError:
                continue  # another process closed or reopened a period of the customer meanwhile
            # As it is stored: at a later time, if another process has recorded by a clock that is ahead, or reopened.
            stored = self._customer_periods(event_name, customer)
            return stored.find_closed(start, end) or stored.find_reopened(start, end) or closed

    @retry_on_connection_loss
    def preview(
        self,
        event_name: str,
        customer: str,
        start: datetime,
        end: datetime,
        *,
        group_by: Sequence[str] = (),
        rules: ClosingRules = "previous",
    ) -> PeriodPreview:
        """Return what closing [start, end) would freeze, and the difference to what was invoiced; nothing is stored.

        A closed period can be previewed as if it was reopened, and a period that hasn't ended too. `rules` are those of
        `close`. Raises InvalidTimeRange, MeterNotFound, InvalidParameter or RulesChangeInRange.
        """
        event_name, customer, rules = require_event_name(event_name), require_customer(customer), _require_rules(rules)
        (start, end, bounds), dimensions = require_time_range(start, end), parse_dimensions(None, group_by)
        periods = self._customer_periods(event_name, customer)
        previous = periods.find_closed(start, end) or periods.find_reopened(start, end)
        with self._meter_queries.session() as read_models:
            meter = self._meter_queries.open_meter(read_models, event_name)
            query = query_period(meter, periods, start, end, dimensions, previous if rules == "previous" else None)
            totals = compute_period_totals(query, customer, start, end)
        first, last = map(from_microseconds, bounds)
        return PeriodPreview(event_name, customer, first, last, totals, previous)

    def reopen(
        self,
        event_name: str,
        customer: str,
        start: datetime,
        end: datetime,
        *,
        reason: str,
        by: str | None = None,
        withdraw_settlements: bool = False,
    ) -> ClosedPeriod:
        """Reopen a closed period, so that it can be closed again with new totals, and return what was closed.

        The first closing stays in the ledger, with its settlements, the reason and the requester. Its invoice is
        withdrawn: the next closing is billed in full. Therefore the documents of its settlements must be withdrawn too;
        without `withdraw_settlements`, a period with settlements is not reopened. Raises PeriodNotClosed,
        PeriodSettled or ApprovalRequired.
        """
        event_name, customer = require_event_name(event_name), require_customer(customer)
        start, end, _ = require_time_range(start, end)
        reason, by = require_text(reason, "reason", 500), optional_note(by, "by")
        withdraw = require_bool(withdraw_settlements, "withdraw_settlements")
        while True:
            permission = self._gate.permit(ChangeKind.REOPENING)
            periods = self._ledger.customer_periods(event_name, customer)
            if periods is None:
                self._ledger.meter(event_name)
                raise PeriodNotClosed(
                    f"No period of {abbreviated_repr(customer)} on {event_name!r} was ever closed.",
                    field="start",
                    value=start,
                )
            closed = periods.reopen(start, end, reason=reason, by=by, at=self._now(), withdraw_settlements=withdraw)
            try:
                self._ledger.append([*permission.first_events(), *periods.collect_events()], permission.versions)
            except (IntegrityError, ConcurrentStreamUpdate):
                continue  # another process changed a period of the customer, or the approval policy, meanwhile
            return closed


def _require_rules(rules: object) -> ClosingRules:
    if rules not in get_args(ClosingRules):
        raise InvalidParameter(
            f"The rules of a closing are 'previous' or 'current', not {abbreviated_repr(rules)}.",
            field="rules",
            value=rules,
        )
    return cast(ClosingRules, rules)
