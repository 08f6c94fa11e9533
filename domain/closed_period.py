"""A closed period: what was counted for an invoice, frozen, and perhaps reopened since."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from .quantities import PlainDecimal
from .rules import Rules


class Figures(BaseModel):
    """What a period came to when it was closed, and what that was computed from.

    `quantity` is the figure by the meter's formula, `billable` what of it is billed, never less than 0. `rules` and
    their `revision` are those it was counted by, `position` is the place in the ledger that it knew of, and `digest`
    tells one set of counted events from another.
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


class ClosedPeriod(Figures):
    """One closing of the period [start, end); `reopened_at`, `reason` and `by` tell that and how it was reopened."""

    event_name: str
    customer: str
    start: datetime
    end: datetime
    closed_at: datetime
    reopened_at: datetime | None = None
    reason: str | None = None
    by: str | None = None

    @property
    def is_standing(self) -> bool:
        """Whether the period is closed still."""
        return self.reopened_at is None
