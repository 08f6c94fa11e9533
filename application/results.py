"""What the application answers: plain values that never change."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from ..domain.errors import TallybookError
from ..domain.meter import Meter
from ..domain.rules import EventTimeWindow, Formula


class Outcome(StrEnum):
    """What became of a report."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"


class Receipt(NamedTuple):
    """The answer to one report.

    `position` is where the ledger holds the meter event of this identifier: this report if it was accepted, the
    earlier one if it is a duplicate or a conflict, None if it was rejected. `error` says why a report was refused.
    """

    identifier: str | None
    position: int | None
    outcome: Outcome
    error: TallybookError | None = None


@dataclass(frozen=True, slots=True)
class MeterView:
    """A meter as it is now. Times are in UTC."""

    event_name: str
    display_name: str
    formula: Formula
    event_time_window: EventTimeWindow | None
    customer_key: str
    value_key: str
    dimension_keys: tuple[str, ...]
    revision: int
    status: str
    created_at: datetime
    updated_at: datetime
    deactivated_at: datetime | None

    @classmethod
    def of(cls, meter: Meter) -> "MeterView":
        """The view of a meter."""
        rules = meter.rules
        return cls(
            meter.event_name,
            meter.display_name,
            rules.formula,
            rules.event_time_window,
            rules.customer_key,
            rules.value_key,
            rules.dimension_keys,
            meter.revision,
            "active" if meter.is_active else "inactive",
            meter.created_on,
            meter.modified_on,
            meter.deactivated_at,
        )


@dataclass(frozen=True, slots=True)
class Total:
    """What one customer used of one meter in [start, end); of the whole meter where `customer` is None.

    `value` is the figure by the meter's formula and `billable` what of it is billed, never less than 0. All figures
    are exact decimals. `last` is None where there is no usage, or where the last usage has no value. `start` and `end`
    are as they were asked for; those of summaries are in UTC.
    """

    value: Decimal
    sum: Decimal
    count: int
    last: Decimal | None
    billable: Decimal
    customer: str | None
    start: datetime
    end: datetime


class Verdict(StrEnum):
    """Whether a meter event counts, or why it doesn't."""

    COUNTED = "counted"
    OVERWRITTEN = "overwritten"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class MeterEventView:
    """A meter event and whether it counts. Times are in UTC.

    `overwritten_by` is the identifier of the later arrival that counts in its place; `cancelled_at`, `reason` and
    `by` tell how it was cancelled.
    """

    event_name: str
    identifier: str
    customer: str
    value: Decimal | None
    dimensions: tuple[str, ...]
    payload: dict[str, str]
    occurred_at: datetime
    recorded_at: datetime
    position: int
    verdict: Verdict
    overwritten_by: str | None = None
    cancelled_at: datetime | None = None
    reason: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every meter event behind a total, by (occurred_at, position). Those that counted add up to it.

    `position` is the place in the ledger that the answer knows of, and `revision` that of the rules.
    """

    total: Total
    formula: Formula
    event_time_window: EventTimeWindow | None
    revision: int
    position: int
    events: tuple[MeterEventView, ...]
