"""The lines for the invoices of a period, and the preview of a closing. They are immutable."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from ..domain.closed_period import ClosedPeriod, PeriodTotals
from ..domain.decimals import EXACT_CONTEXT
from ..domain.errors import TallybookError


class InvoiceLineKind(StrEnum):
    """Whether a line has the usage of a closed period, or an adjustment of an earlier one."""

    USAGE = "usage"
    ADJUSTMENT = "adjustment"


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A line of an invoice: the usage of a customer on a meter in the closed period [start, end), or its adjustment.

    `quantity` and `billable` of usage are those that the period was closed with; of an adjustment, they are signed
    differences since the period was invoiced. `dimensions` are the dimension values of the line, None unless the period
    was closed by dimensions; each of its lines is billed for itself, so that a negative one bills 0.

    `position` is the ledger position that the figure was computed at: that of the closing, or that of the adjustment.
    `digest` is that of the closing. `previously_billed` is the billable quantity that earlier documents have. For an
    adjustment, a price in tiers is computed as price(previously_billed + billable) - price(previously_billed). For the
    usage of a period that was reopened, it is that of the documents that are withdrawn, on the first line of the period
    only. `is_late` is set if the customer was not closed, see `Adjustment.is_late`.
    """

    kind: InvoiceLineKind
    event_name: str
    customer: str
    start: datetime
    end: datetime
    dimensions: dict[str, str | None] | None = field(hash=False)
    quantity: Decimal
    billable: Decimal
    position: int
    digest: str
    previously_billed: Decimal | None = None
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class UnsettledAdjustment:
    """An adjustment among invoice lines that was settled by another document, or whose period was closed again."""

    event_name: str
    customer: str
    start: datetime
    end: datetime
    error: TallybookError


@dataclass(frozen=True, slots=True)
class LineSettlement:
    """How many adjustments among invoice lines are settled by a document, and those that are not."""

    document: str
    settled: int
    not_settled: tuple[UnsettledAdjustment, ...]


@dataclass(frozen=True, slots=True)
class InvoiceLines:
    """The lines for the invoices of a period, by customer and meter: its usage, then adjustments of earlier periods.

    The lines are those known at `position`: a query as of this position returns them again. `settlement` is set if the
    call settled the adjustments.
    """

    start: datetime
    end: datetime
    position: int
    lines: tuple[InvoiceLine, ...]
    settlement: LineSettlement | None = None


@dataclass(frozen=True, slots=True)
class PeriodPreview:
    """What closing a period would freeze, and the difference to what was invoiced for it.

    `previous` is the present closing of the period, or the last one that was reopened; None if it was never closed. The
    differences are the totals less what was invoiced by then: see `ClosedPeriod.invoiced`.
    """

    event_name: str
    customer: str
    start: datetime
    end: datetime
    totals: PeriodTotals
    previous: ClosedPeriod | None

    @property
    def difference(self) -> Decimal:
        """The quantity less the one that was invoiced."""
        quantity = self.totals.quantity
        return quantity if self.previous is None else EXACT_CONTEXT.subtract(quantity, self.previous.invoiced.quantity)

    @property
    def billable_difference(self) -> Decimal:
        """The billed quantity less the one that was invoiced."""
        billable = self.totals.billable
        return billable if self.previous is None else EXACT_CONTEXT.subtract(billable, self.previous.invoiced.billable)
