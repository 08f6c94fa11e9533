"""Settles adjustments: records that a credit note or an invoice has what was owed on closed periods."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from eventsourcing.persistence import IntegrityError

from ...domain.acceptance_policy import AcceptancePolicy
from ...domain.closed_period import ClosedPeriod, Settlement
from ...domain.customer_periods import CustomerPeriods
from ...domain.decimal_fields import PlainDecimal
from ...domain.errors import AdjustmentNotFound, PeriodNotEnded, PeriodOverlaps, SettlementExists
from ...domain.text import abbreviated_repr
from ..adjustment_results import Adjustment
from ..interruption import check_interruption
from ..invoice_results import LineSettlement, UnsettledAdjustment
from ..ledger.ledger import Ledger

_PERIODS_PER_TRANSACTION = 500


class _Batch(NamedTuple):
    settled: list[ClosedPeriod]
    not_settled: list[UnsettledAdjustment]


class OpenAdjustment(NamedTuple):
    """What settling an adjustment needs of it: the closed period, and its totals at the position."""

    period: ClosedPeriod
    quantity: PlainDecimal
    billable: PlainDecimal
    position: int
    is_late: bool

    @classmethod
    def of(cls, adjustment: Adjustment) -> "OpenAdjustment":
        """Return what is needed to settle an adjustment."""
        period, position = adjustment.period, adjustment.position
        return cls(period, adjustment.quantity, adjustment.billable, position, adjustment.is_late)


class Settler:
    """Settles adjustments by one document."""

    def __init__(self, ledger: Ledger, policy: AcceptancePolicy, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._policy = policy
        self._now = now

    def settle(self, adjustment: OpenAdjustment, document: str, by: str | None) -> ClosedPeriod:
        """Settle an adjustment, and return the closed period with the settlement.

        Raises SettlementExists, or AdjustmentNotFound if the period was settled or closed again meanwhile.
        """
        batch = self._settle_batch([adjustment], document, by)
        for unsettled in batch.not_settled:
            raise unsettled.error
        return batch.settled[0]

    def settle_all(self, adjustments: Iterable[OpenAdjustment], document: str, by: str | None) -> LineSettlement:
        """Settle adjustments, some hundred in a transaction. The same call after an interruption settles the rest.

        An adjustment that was settled by another document, or whose period was closed again, is not settled. Neither is
        that of a late customer whose period can't be closed yet, under another policy than that of the closings.
        """
        remaining, settled = iter(adjustments), 0
        not_settled: list[UnsettledAdjustment] = []
        while adjustments_of_batch := list(islice(remaining, _PERIODS_PER_TRANSACTION)):
            check_interruption()
            batch = self._settle_batch(adjustments_of_batch, document, by)
            settled += len(batch.settled)
            not_settled += batch.not_settled
        return LineSettlement(document, settled, tuple(not_settled))

    def _settle_batch(self, adjustments: Sequence[OpenAdjustment], document: str, by: str | None) -> "_Batch":
        while True:
            batch, at = _Batch([], []), self._now()
            by_stream: dict[str, CustomerPeriods] = {}
            for adjustment in adjustments:
                period = adjustment.period
                stream = CustomerPeriods.stream_id(period.event_name, period.customer)
                if stream not in by_stream:
                    stored = self._ledger.customer_periods(period.event_name, period.customer)
                    empty = CustomerPeriods.empty(period.event_name, period.customer, at=at)
                    by_stream[stream] = stored or empty
                try:
                    batch.settled.append(self._settle(by_stream[stream], adjustment, document, by, at))
                except (AdjustmentNotFound, PeriodNotEnded, SettlementExists) as error:
                    bounds = period.start, period.end
                    # A traceback holds all periods of the batch, and there may be as many errors as adjustments.
                    error.__traceback__ = error.__cause__ = error.__context__ = None
                    batch.not_settled.append(UnsettledAdjustment(period.event_name, period.customer, *bounds, error))
            try:
                self._ledger.append([event for periods in by_stream.values() for event in periods.collect_events()])
            except IntegrityError:
                continue  # another process closed, reopened or settled a period of a customer meanwhile
            return batch

    def _settle(
        self, periods: CustomerPeriods, adjustment: OpenAdjustment, document: str, by: str | None, at: datetime
    ) -> ClosedPeriod:
        period, position = adjustment.period, adjustment.position
        closed = periods.find_closed(period.start, period.end)
        if closed is None and adjustment.is_late and not _is_withdrawn(periods, adjustment, document):
            # The closing without usage that the adjustment is computed from is stored, so that it can be settled.
            try:
                closed = periods.close(period.start, period.end, period.totals, at=at, policy=self._policy, by=by)
            except PeriodOverlaps as error:
                raise _closed_otherwise(period, position) from error
        if closed is None or (closed.position, closed.digest) != (period.position, period.digest):
            raise AdjustmentNotFound(
                f"The period from {period.start} to {period.end} of {abbreviated_repr(period.customer)} on "
                f"{period.event_name!r} was reopened after position {position}: the adjustment is that of a closing "
                "that is withdrawn.",
                field="start",
                value=period.start,
            )
        settled_since = closed.settlements[len(period.settlements) :]
        is_settled = any(one.document == document for one in closed.settlements)
        if settled_since and not is_settled and position > closed.invoiced.position:
            # What was owed at the position includes what that document billed, so this one would bill it again.
            raise _settled_since(closed, settled_since[-1], position)
        return periods.settle(
            period.start, period.end, quantity=adjustment.quantity, billable=adjustment.billable, position=position,
            document=document, by=by, at=at,
        )  # fmt: skip


def _is_withdrawn(periods: CustomerPeriods, adjustment: OpenAdjustment, document: str) -> bool:
    """Return whether this settlement was withdrawn when the period was reopened: a retry must not store it again."""
    bounds = adjustment.period.start, adjustment.period.end
    return any(
        (settlement.document, settlement.position) == (document, adjustment.position)
        for period in periods.closed_periods
        if (period.start, period.end) == bounds
        for settlement in period.settlements
    )


def _closed_otherwise(period: ClosedPeriod, position: int) -> AdjustmentNotFound:
    """Return the error that a late customer has another closing by now: its usage isn't owed as an adjustment."""
    return AdjustmentNotFound(
        f"The usage of {abbreviated_repr(period.customer)} on {period.event_name!r} from {period.start} to "
        f"{period.end} was closed in another period after position {position}: it is no longer owed as an adjustment.",
        field="start",
        value=period.start,
    )


def _settled_since(period: ClosedPeriod, settlement: Settlement, position: int) -> AdjustmentNotFound:
    """Return the error that another document has billed, or credited, what was owed at a position."""
    return AdjustmentNotFound(
        f"The adjustment of the period from {period.start} to {period.end} of {abbreviated_repr(period.customer)} on "
        f"{period.event_name!r} as of position {position} was settled by {abbreviated_repr(settlement.document)} "
        f"since, as of position {settlement.position}. Both documents would bill the same usage: make a new one from "
        "the adjustment as it is now.",
        field="start",
        value=period.start,
    )
