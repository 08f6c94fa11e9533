"""The totals of an evidence pack: those of a customer in a range as of a checkpoint, and of periods closed in it."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple, cast

import msgspec

from ...domain.closed_period import ClosedPeriod
from ...domain.customer_periods import CustomerPeriods
from ...domain.rules import Rules
from ...domain.rules_schedule import bound_to_datetime
from ..adjustment_results import Adjustment
from ..ledger.ledger import Ledger
from ..queries.adjustments import PeriodQueries
from ..queries.closed_query import query_closing
from ..queries.explanations import ExplanationQueries
from ..queries.meter_query import MeterQueryFactory
from ..results import ExplanationStream
from ..validation import require_time_range
from .results import EvidenceKind

PERIOD_CLOSED, ADJUSTMENT_SETTLED = "PeriodClosed", "AdjustmentSettled"


class Closing(NamedTuple):
    """A closing of a period, with the positions of its event and of the last settlement of an adjustment."""

    period: ClosedPeriod
    position: int
    settlement_position: int | None


class TotalToExplain(NamedTuple):
    """A total that belongs into a pack: of a range, or of a closing."""

    meter: str
    kind: EvidenceKind
    start: datetime
    end: datetime
    position: int
    rules: Rules
    closing: Closing | None = None
    adjustment: Adjustment | None = None


class EvidencedTotals:
    """Finds the totals of a customer in a range as of a position, and explains them."""

    def __init__(
        self,
        ledger: Ledger,
        meter_queries: MeterQueryFactory,
        explanations: ExplanationQueries,
        periods: PeriodQueries,
    ) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries
        self._explanations = explanations
        self._periods = periods

    def find(
        self, event_name: str, customer: str, start: datetime, end: datetime, position: int
    ) -> Iterator[TotalToExplain]:
        """Yield the total of a meter now, one for each part if the rules change in the range, then those of closings.

        A closing that was reopened since is yielded too: an invoice has its total.
        """
        for first, last, rules in self._single_quantity_ranges(event_name, start, end, position):
            yield TotalToExplain(event_name, EvidenceKind.CURRENT, first, last, position, rules)
        for closing in self.closings(event_name, customer, start, end, position):
            period = closing.period
            bounds, rules = (period.start, period.end), period.rules
            yield TotalToExplain(event_name, EvidenceKind.CLOSED, *bounds, period.position, rules, closing)
            adjustment = self._adjustment(period, position) if period.is_closed else None
            if adjustment is not None:
                yield TotalToExplain(event_name, EvidenceKind.ADJUSTED, *bounds, position, rules, closing, adjustment)

    def _adjustment(self, period: ClosedPeriod, position: int) -> Adjustment | None:
        """Return what has changed in a period since it was closed; None if nothing has, which takes little memory."""
        event_name, customer, after = period.event_name, period.customer, period.invoiced.position
        if not period.settlements:
            with query_closing(self._meter_queries, period, position) as query:
                changes = query.view.last_changes(*query.view.bounds, after)
                if changes is not None and changes.get(query.view.customer_id(customer) or 0, 0) <= after:
                    return None
        adjustments = self._periods.adjustments(
            event_name, customer, start=period.start, end=period.end, as_of=position, settled=True, max_events=0
        )
        bounds = period.start, period.end
        of_period = (one for one in adjustments if (one.period.start, one.period.end) == bounds and not one.is_late)
        return next(of_period, None)

    def closings(
        self, event_name: str, customer: str, start: datetime, end: datetime, position: int
    ) -> Sequence[Closing]:
        """Return the closings that overlap [start, end) as of a position, in the order of closing."""
        stored = self._ledger.ledger_recorder.select_stream(CustomerPeriods.stream_id(event_name, customer))
        known = [event for event in stored if event.id <= position]
        closed_at = [event.id for event in known if event.topic == PERIOD_CLOSED]
        settled_at = {_decode(event.state): event.id for event in known if event.topic == ADJUSTMENT_SETTLED}
        closings: list[Closing] = []
        for periods in cast(Iterator[CustomerPeriods], self._ledger.aggregates(known)):
            for period, at in zip(periods.closed_periods, closed_at, strict=True):
                if period.start < end and start < period.end:
                    keys = (
                        _Settlement(period.start, period.end, settlement.document, settlement.settled_at)
                        for settlement in period.settlements[-1:]
                    )
                    closings.append(Closing(period, at, next((settled_at[key] for key in keys), None)))
        return closings

    @contextmanager
    def explained(self, total: TotalToExplain, customer: str) -> Generator[ExplanationStream]:
        """Open the explanation of a total."""
        if total.closing is None:
            opened = self._explanations.open_explanation(
                total.meter, customer, total.start, total.end, as_of=total.position
            )
        else:
            opened = self._explanations.open_closing(total.closing.period, total.position)
        with opened as explanation:
            yield explanation

    def _single_quantity_ranges(
        self, event_name: str, start: datetime, end: datetime, position: int
    ) -> list[tuple[datetime, datetime, Rules]]:
        """Return the parts of a range that each have a single quantity, with its rules; the range if it has one."""
        with self._meter_queries.open(event_name, position) as meter:
            parts = list(meter.quantity_ranges(require_time_range(start, end).bounds))
        if not parts:
            return [(start, end, meter.schedule.newest.rules)]
        if len(parts) == 1:
            return [(start, end, parts[0].effective.rules)]
        return [(bound_to_datetime(part.start), bound_to_datetime(part.end), part.effective.rules) for part in parts]


class _Settlement(msgspec.Struct, frozen=True):
    start: datetime
    end: datetime
    document: str
    recorded_at: datetime


_decode = msgspec.json.Decoder(_Settlement).decode
