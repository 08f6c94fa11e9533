"""Closed periods of a customer on a meter: the frozen totals, and the settlements of their adjustments."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from .decimal_fields import PlainDecimal
from .rules import Rules


class PeriodGroup(BaseModel):
    """The totals of the usage of a period with some dimension values; None is an absent optional dimension."""

    model_config = ConfigDict(frozen=True)

    dimensions: dict[str, str | None]
    quantity: PlainDecimal
    billable: PlainDecimal
    sum: PlainDecimal
    count: int
    last: PlainDecimal | None

    def __hash__(self) -> int:
        """Return the hash of the fields, of which pydantic can't hash the dimensions."""
        return hash((tuple(self.dimensions.items()), self.quantity, self.count))


class PeriodTotals(BaseModel):
    """The totals of a period when it was closed, and what they were computed from.

    They contain the usage that occurred from `counted_from` until `counted_until`: the event time windows that start in
    the period, and that no adjoining closing counted. None means the start or the end of the period.

    `quantity` is the result of the meter's formula and `billable` the billed quantity, never less than 0. `rules` and
    `revision` are the rules that applied, `position` is the ledger position of the last event included, and `digest`
    is the SHA-256 of the counted events. `groups` are the totals by dimension values, if the closing asked for them.
    """

    model_config = ConfigDict(frozen=True)

    quantity: PlainDecimal
    billable: PlainDecimal
    sum: PlainDecimal
    count: int
    last: PlainDecimal | None
    rules: Rules
    revision: int
    position: int
    digest: str
    groups: tuple[PeriodGroup, ...] = ()
    counted_from: datetime | None = None
    counted_until: datetime | None = None


class Settlement(BaseModel):
    """A settled adjustment: a credit note or an invoice has the difference since the closing, or the last settlement.

    `quantity` and `billable` are the totals of the period at the ledger position `position`, under the rules that it
    was closed under. `difference` and `billable_difference` are what was settled, signed. `document` is the number of
    the credit note or invoice.
    """

    model_config = ConfigDict(frozen=True)

    document: str
    quantity: PlainDecimal
    billable: PlainDecimal
    difference: PlainDecimal
    billable_difference: PlainDecimal
    position: int
    settled_at: datetime
    by: str | None = None
    on_behalf_of: str | None = None


class ClosedPeriod(PeriodTotals):
    """One closing of the period [start, end), and the settlements of its adjustments, in order.

    `reopened_at`, `reason`, `by` and `on_behalf_of` are set when it is reopened; `closed_by` is who closed it.
    """

    event_name: str
    customer: str
    start: datetime
    end: datetime
    closed_at: datetime
    closed_by: str | None = None
    reopened_at: datetime | None = None
    reason: str | None = None
    by: str | None = None
    on_behalf_of: str | None = None
    settlements: tuple[Settlement, ...] = ()

    @property
    def is_closed(self) -> bool:
        """Whether the period is still closed."""
        return self.reopened_at is None

    @property
    def counted_range(self) -> tuple[datetime, datetime]:
        """The range of the usage in the totals."""
        return self.counted_from or self.start, self.counted_until or self.end

    @property
    def totals(self) -> PeriodTotals:
        """The frozen totals alone."""
        return PeriodTotals.model_validate({field: getattr(self, field) for field in PeriodTotals.model_fields})

    @property
    def invoiced(self) -> PeriodTotals | Settlement:
        """What was invoiced last: the last settlement, or the closing. What has changed since is owed."""
        return self.settlements[-1] if self.settlements else self
