"""Invoice lines: the usage of a period for its invoices, and the settlement of adjustments by them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from ...domain.acceptance_policy import AcceptancePolicy
from ...domain.closed_period import ClosedPeriod
from ...domain.customer_periods import CustomerPeriods, nothing_owed, period_not_closed
from ...domain.errors import InvalidAsOf
from ...domain.timestamps import ensure_utc, from_microseconds
from ...projections.models import AsOf
from ..adjustment_results import Adjustment
from ..invoice_results import InvoiceLine, InvoiceLines, LineSettlement
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..queries.adjustments import PeriodQueries
from ..queries.dimension_query import NO_DIMENSIONS
from ..queries.invoice_lines import InvoiceLineReader
from ..queries.meter_query import MeterQueryFactory
from ..queries.period_adjustment import EventRange
from ..validation import (
    optional_customer,
    optional_event_names,
    optional_note,
    parse_as_of,
    require_customer,
    require_event_name,
    require_text,
    require_time_range,
)
from .settlements import OpenAdjustment, Settler

_MAX_DOCUMENT = 500


class InvoiceLineCommands(PeriodQueries):
    """The invoice lines of a ledger, and the settlements of adjustments: a part of `metering.periods`."""

    def __init__(
        self, ledger: Ledger, meter_queries: MeterQueryFactory, policy: AcceptancePolicy, clock: Callable[[], datetime]
    ) -> None:
        super().__init__(ledger, meter_queries)
        self._policy = policy
        self._clock = clock
        self._settler = Settler(ledger, policy, self._now)

    def settle(
        self,
        event_name: str,
        customer: str,
        start: datetime,
        end: datetime,
        *,
        document: str,
        as_of: datetime | int | None = None,
        by: str | None = None,
    ) -> ClosedPeriod:
        """Record that a credit note or an invoice has the adjustment of a closed period, and return the period.

        `document` is its number. The adjustment is settled as of `as_of`, the position that the document was made at;
        by default now. From then on, what has changed since is owed. Settling again with the same document returns the
        first result.

        A late customer, who has no closing, gets the closing without usage that the adjustment is computed from. Raises
        PeriodNotClosed, AdjustmentNotFound if nothing is owed, InvalidAsOf for a position that the ledger doesn't have
        yet, or SettlementExists if the document settled the period as of another position.
        """
        event_name, customer = require_event_name(event_name), require_customer(customer)
        start, end, _ = require_time_range(start, end)
        document, by = require_text(document, "document", _MAX_DOCUMENT), optional_note(by, "by")
        self._require_position(as_of)
        closed = self._customer_periods(event_name, customer).find_closed(start, end)
        if closed is not None and as_of is None and any(one.document == document for one in closed.settlements):
            return closed
        for adjustment in self._adjustments_in(event_name, customer, start, end, as_of):
            if (adjustment.period.start, adjustment.period.end) == (start, end) and adjustment.is_open:
                return self._settler.settle(OpenAdjustment.of(adjustment), document, by)
        if closed is None:
            raise period_not_closed(event_name, customer, start, end)
        known = self._meter_queries.as_of(as_of)
        raise nothing_owed(closed, self._ledger.head() if known is None else known.position)

    def invoice_lines(
        self,
        start: datetime,
        end: datetime,
        *,
        meters: Sequence[str] | None = None,
        customer: str | None = None,
        as_of: datetime | int | None = None,
        settle: str | None = None,
        by: str | None = None,
    ) -> InvoiceLines:
        """Return the lines for the invoices of a period: closed usage, then open adjustments of earlier periods.

        They are those of some meters, all if None, and of one or all customers. The usage is that of the closed periods
        that end in (start, end]; the adjustments are those of the periods that end before. A closing by dimensions has
        a line for each group. For customers in several timezones, take the bounds of the one furthest to the west: its
        month ends last.

        With `settle`, the number of a document such as the invoice run, the adjustments among the lines are recorded as
        settled by it: what changes afterwards is owed next. To settle later what was invoiced, pass the position of the
        lines as `as_of`. An interrupted call is completed by the same call with that position. An adjustment that
        another document settled meanwhile is reported in `settlement.not_settled`.

        Raises MeterNotFound, InvalidTimeRange or InvalidAsOf.
        """
        document = None if settle is None else require_text(settle, "settle", _MAX_DOCUMENT)
        by = optional_note(by, "by")
        if document is not None:
            self._require_position(as_of)
        lines, adjustments = self._invoice_lines(start, end, meters, customer, as_of)
        if document is None:
            return lines
        return replace(lines, settlement=self._settler.settle_all(adjustments, document, by))

    @contextmanager
    def read_invoice_lines(
        self,
        start: datetime,
        end: datetime,
        *,
        meters: Sequence[str] | None = None,
        customer: str | None = None,
        as_of: datetime | int | None = None,
    ) -> Generator[InvoiceLineReader]:
        """Open the lines that `invoice_lines` returns, to read one after another, in any order.

        So the lines of many customers need not be in memory at once. Raises MeterNotFound, InvalidTimeRange or
        InvalidAsOf.
        """
        bounds, names = require_time_range(start, end).bounds, optional_event_names(meters)
        known = self._meter_queries.as_of(as_of)
        customer = optional_customer(customer)
        with self._meter_queries.session() as read_models:
            yield InvoiceLineReader(self._ledger, self._meter_queries, read_models, bounds, names, customer, known)

    def settle_invoice_lines(
        self,
        start: datetime,
        end: datetime,
        *,
        document: str,
        as_of: datetime | int | None = None,
        meters: Sequence[str] | None = None,
        customer: str | None = None,
        by: str | None = None,
    ) -> LineSettlement:
        """Settle the adjustments among the lines as of `as_of`, as `invoice_lines` does, without reading the usage."""
        document, by = require_text(document, "document", _MAX_DOCUMENT), optional_note(by, "by")
        self._require_position(as_of)
        found = self._open_adjustments(start, end, meters, customer, as_of)
        return self._settler.settle_all(found, document, by)

    @retry_on_connection_loss
    def _open_adjustments(
        self,
        start: datetime,
        end: datetime,
        meters: Sequence[str] | None,
        customer: str | None,
        as_of: datetime | int | None,
    ) -> list[OpenAdjustment]:
        with self.read_invoice_lines(start, end, meters=meters, customer=customer, as_of=as_of) as reader:
            return [OpenAdjustment.of(adjustment) for adjustment, _ in reader.open_adjustments()]

    @retry_on_connection_loss
    def _invoice_lines(
        self,
        start: datetime,
        end: datetime,
        meters: Sequence[str] | None,
        customer: str | None,
        as_of: datetime | int | None,
    ) -> tuple[InvoiceLines, list[OpenAdjustment]]:
        with self.read_invoice_lines(start, end, meters=meters, customer=customer, as_of=as_of) as reader:
            usage, found = sorted(reader.usage(), key=_order), list(reader.open_adjustments())
            position = reader.position
        adjustments = sorted((line for _, lines in found for line in lines), key=_order)
        first, last = map(from_microseconds, require_time_range(start, end).bounds)
        invoice_lines = InvoiceLines(first, last, position, (*usage, *adjustments))
        return invoice_lines, [OpenAdjustment.of(adjustment) for adjustment, _ in found]

    @retry_on_connection_loss
    def _adjustments_in(
        self, event_name: str, customer: str, start: datetime, end: datetime, as_of: datetime | int | None
    ) -> list[Adjustment]:
        bounds, known = require_time_range(start, end).bounds, self._meter_queries.as_of(as_of)
        no_events = EventRange(max_events=0)
        return list(
            self._adjustments(event_name, customer, bounds, known, NO_DIMENSIONS, since_closing=False, events=no_events)
        )

    def _require_position(self, as_of: datetime | int | None) -> None:
        """Raise InvalidAsOf for a position that the ledger doesn't have yet: what is owed there isn't known."""
        known = parse_as_of(as_of)
        if isinstance(known, AsOf) and known.position > (head := self._ledger.head()):
            raise InvalidAsOf(
                f"The ledger has {head} events, so there is no position {known.position} to settle.",
                field="as_of",
                value=as_of,
            )

    def _customer_periods(self, event_name: str, customer: str) -> CustomerPeriods:
        periods = self._ledger.customer_periods(event_name, customer)
        return periods or CustomerPeriods.empty(event_name, customer, at=self._now())

    def _now(self) -> datetime:
        return ensure_utc(self._clock(), "clock")


def _order(line: InvoiceLine) -> tuple[str, str, datetime]:
    return line.customer, line.event_name, line.start
