"""The results of billing runs, and of the question whether a period is billed completely. They are immutable."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from ..domain.billing_run import BillingRun, ControlTotal
from ..domain.errors import TallybookError


class RunDifferenceReason(StrEnum):
    """Why usage of a customer is not, or not as it was at the position of the run, in its closings."""

    NOT_CLOSED = "not_closed"
    CLOSED_BEFORE = "closed_before"
    LATE = "late"
    ADJOINING = "adjoining"
    RECLOSED = "reclosed"


@dataclass(frozen=True, slots=True)
class RunDifference:
    """Usage of a customer that is not in the closings of a billing run, or in them and not in the usage; signed.

    `sum` and `count` are those of the counted events. A customer that was not closed has the `error`; if the customer
    is None, the meter could not be closed for any. A customer that was closed before the run was closed with other
    totals than it had at the position of the run; the difference is owed as an adjustment, like that of a late one.
    Usage is adjoining if an adjoining period of the customer was closed under rules with other event time windows: that
    closing has it, or this one has it though its window starts in the other period. A period that was reopened is
    closed under the rules of its previous closing. Its difference is reclosed: the usage under the current rules minus
    the usage in that closing.
    """

    event_name: str
    customer: str | None
    reason: RunDifferenceReason
    sum: Decimal
    count: int
    error: TallybookError | None = None


@dataclass(frozen=True, slots=True)
class BillingRunView:
    """A billing run of the period [start, end). `closed_at` is None until all customers are processed.

    All of its closings are computed from the events up to `position`. `meters` are its control totals, and `customers`
    is the number of customers with a closing on any of them.
    """

    number: int
    start: datetime
    end: datetime
    timezone: str
    event_names: tuple[str, ...]
    is_for_all_meters: bool
    group_by: tuple[str, ...]
    position: int
    started_at: datetime
    started_by: str | None
    closed_at: datetime | None
    closed_by: str | None
    customers: int
    meters: tuple[ControlTotal, ...]

    @classmethod
    def from_run(cls, run: BillingRun) -> "BillingRunView":
        """Return the view of a run."""
        return cls(
            run.number, run.start, run.end, run.timezone, run.event_names, run.is_for_all_meters, run.group_by,
            run.position, run.created_on, run.started_by, run.closed_at, run.closed_by, run.customers, run.meters,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class BillingRunResult:
    """The result of a billing run. `was_closed` is true if it was closed before this call, which changed nothing.

    The sum of the closings and of all `difference_count` differences is the usage of each meter at the position of the
    run. The first 1,000 differences are listed.
    """

    run: BillingRunView
    was_closed: bool
    differences: tuple[RunDifference, ...] = ()
    difference_count: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the period of each customer with usage is closed."""
        return not any(meter.not_closed for meter in self.run.meters)


class UnbilledReason(StrEnum):
    """Why usage is in no closing: the period is open, closed in parts only, or a gap between two closings."""

    OPEN = "open"
    PARTLY_CLOSED = "partly_closed"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class UnbilledUsage:
    """Usage of a customer in [start, end) that is in no closing, and owed as no adjustment either.

    `value` is the quantity under the current rules and `count` the number of counted events.
    """

    event_name: str
    customer: str
    start: datetime
    end: datetime
    reason: UnbilledReason
    value: Decimal
    count: int


@dataclass(frozen=True, slots=True)
class PartialClosing:
    """A closing that overlaps a period and has other bounds."""

    event_name: str
    customer: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class MeterPeriodStatus:
    """The status of a period on one meter.

    `closed_customers` is the number of closings of exactly the period, `late_customers` that of customers whose usage
    is owed as an adjustment because it was all recorded after the period was closed, and `open_customers` that of
    customers with usage and no closing. `unbilled` is the usage in no closing and no adjustment: `unbilled_count`
    entries of `unbilled_customers` customers with `unbilled_events` counted events. `partial_closings` overlap the
    period with other bounds. Both lists may be cut.
    """

    event_name: str
    closed_customers: int
    late_customers: int
    open_customers: int
    unbilled_customers: int
    unbilled_events: int
    unbilled_count: int
    unbilled: tuple[UnbilledUsage, ...]
    partial_closing_count: int
    partial_closings: tuple[PartialClosing, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all usage of the period is in a closing or owed as an adjustment."""
        return not self.unbilled_count


@dataclass(frozen=True, slots=True)
class PeriodStatus:
    """The status of the period [start, end) at a position of the ledger. `runs` are the billing runs that overlap."""

    start: datetime
    end: datetime
    position: int
    meters: tuple[MeterPeriodStatus, ...]
    runs: tuple[BillingRunView, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all usage of the period is in a closing or owed as an adjustment, on each meter."""
        return all(meter.is_complete for meter in self.meters)
