"""What the application answers: plain values that never change."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from ..domain.closed_period import ClosedPeriod
from ..domain.errors import TallybookError
from ..domain.meter import Meter
from ..domain.quantities import ZERO
from ..domain.rules import EventTimeWindow, Formula, Rules
from ..projections.generations import GenerationState


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


class MeterChange(NamedTuple):
    """Something that happened to a meter: where the ledger holds it, what it was, and the meter then and before.

    `happened` is Configured, Renamed, RulesChanged, Deactivated or Reactivated; the first has nothing before it.
    """

    position: int
    happened: str
    meter: MeterView
    before: MeterView | None


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
class ExplainedEvent(MeterEventView):
    """A meter event behind a figure, and what it contributes: 0 unless it counts."""

    contribution: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every meter event behind a total, by (occurred_at, position). Their contributions add up to its value.

    `position` is the place in the ledger that the answer knows of, and `revision` that of the rules. `digest` is the
    SHA-256 of the events that counted, as in a closed period.
    """

    total: Total
    formula: Formula
    event_time_window: EventTimeWindow | None
    revision: int
    position: int
    digest: str
    events: tuple[ExplainedEvent, ...]


@dataclass(frozen=True, slots=True)
class AdjustingEvent(MeterEventView):
    """A meter event that was recorded or cancelled, or came to count or not, after its period was closed.

    `before` is its verdict at the closing, None where it wasn't recorded; `change` is what it adds to the figure since.
    """

    before: Verdict | None = None
    change: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What is owed on a closed period since it was closed, signed.

    `quantity` and `billable` are what the period comes to now under the rules that it was closed with; `difference`
    and `billable_difference` are what that adds to the frozen figures. `events` caused it: their changes add up to
    the difference. `rules_difference` is what the rules in force would add to that, which is not owed.
    """

    period: ClosedPeriod
    quantity: Decimal
    billable: Decimal
    difference: Decimal
    billable_difference: Decimal
    rules_difference: Decimal
    position: int
    events: tuple[AdjustingEvent, ...]


@dataclass(frozen=True, slots=True)
class GenerationView:
    """A generation of the read models, folded up to `position` of the ledger, whose newest event is at `head`.

    `rules` are those it was built under, by event name, where these are not the rules in force.
    """

    number: int
    state: GenerationState
    position: int
    head: int
    rules: dict[str, Rules]
