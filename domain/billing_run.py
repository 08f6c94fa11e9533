"""The BillingRun aggregate: one closing of a period for all customers of one or more meters.

Invariant: bounds, meters and position are fixed when the run starts, so that a run that was interrupted computes the
remaining closings from the same events; a run is closed once.
"""

import operator
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from .acceptance_policy import AcceptancePolicy
from .aggregate import Aggregate
from .decimal_fields import PlainDecimal
from .decimals import EXACT_CONTEXT
from .errors import InvalidTimeRange
from .timestamps import ensure_time_range

STREAM_PREFIX = "run/"


class ControlTotal(BaseModel):
    """What a run closed on one meter, and the usage of the meter that it is compared with.

    `customers` is the number of closings of exactly the period of the run, `quantity`, `billable`, `sum` and `count`
    are the sums over them; `closed_before` of them were not closed by the run. `usage_sum` and `usage_count` are the
    meter's own totals at the position of the run. Under a formula whose quantities don't add up, such as max or
    unique_count, `sum` and `count` of the counted events are what is controlled. `not_closed` customers with usage were
    not closed, and `late` ones had no usage at the position of an earlier run of this period: they are owed as its
    adjustments.
    """

    model_config = ConfigDict(frozen=True)

    event_name: str
    customers: int
    closed_before: int
    quantity: PlainDecimal
    billable: PlainDecimal
    sum: PlainDecimal
    count: int
    usage_sum: PlainDecimal
    usage_count: int
    not_closed: int
    late: int

    @property
    def is_balanced(self) -> bool:
        """Whether sum and count of the closings are those of the meter."""
        return self.sum == self.usage_sum and self.count == self.usage_count

    @property
    def sum_difference(self) -> PlainDecimal:
        """The sum of the usage less that of the closings."""
        return EXACT_CONTEXT.subtract(self.usage_sum, self.sum)

    @property
    def count_difference(self) -> int:
        """The number of counted events less that in the closings."""
        return self.usage_count - self.count


class BillingRun(Aggregate):
    """A billing run of the period [start, end) over the meters `event_names`."""

    class BillingRunStarted(Aggregate.Created):
        """A run was started. Each of its closings is computed from the events up to `position`.

        `is_for_all_meters` is set if the caller named no meters.
        """

        start: datetime
        end: datetime
        timezone: str
        event_names: tuple[str, ...]
        is_for_all_meters: bool
        position: int
        by: str | None
        group_by: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)

    class BillingRunClosed(Aggregate.Event):
        """All customers were processed. Repeats what was fixed at the start, so that it is readable by itself."""

        start: datetime
        end: datetime
        timezone: str
        position: int
        customers: int
        meters: tuple[ControlTotal, ...]
        by: str | None

        def apply(self, aggregate: "BillingRun") -> None:
            """Close the run."""
            aggregate.closed_at = self.timestamp
            aggregate.closed_by = self.by
            aggregate.customers = self.customers
            aggregate.meters = self.meters

    def __init__(
        self, start: datetime, end: datetime, timezone: str, event_names: tuple[str, ...], is_for_all_meters: bool,
        position: int, by: str | None, group_by: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.start = start
        self.end = end
        self.timezone = timezone
        self.event_names = event_names
        self.is_for_all_meters = is_for_all_meters
        self.position = position
        self.started_by = by
        self.group_by = group_by
        self.customers = 0
        self.meters: tuple[ControlTotal, ...] = ()
        self.closed_at: datetime | None = None
        self.closed_by: str | None = None

    @staticmethod
    def stream_id(number: int) -> str:
        """Return the id of the stream of the run with this number."""
        return f"{STREAM_PREFIX}{number}"

    @property
    def number(self) -> int:
        """The number of the run: 1 for the first run of the ledger."""
        return int(self.id.removeprefix(STREAM_PREFIX))

    @property
    def is_closed(self) -> bool:
        """Whether all customers were processed."""
        return self.closed_at is not None

    @property
    def is_complete(self) -> bool:
        """Whether all customers were processed and closed."""
        return self.is_closed and not any(meter.not_closed for meter in self.meters)

    def has_closed(self, event_name: str) -> bool:
        """Return whether there was a closing of exactly the period of any customer on a meter when the run ended."""
        return any(meter.customers for meter in self.meters if meter.event_name == event_name)

    @classmethod
    def begin(
        cls, number: int, start: datetime, end: datetime, *, timezone: str, event_names: tuple[str, ...],
        is_for_all_meters: bool, group_by: tuple[str, ...], position: int, by: str | None, at: datetime,
        policy: AcceptancePolicy, counted_until: datetime | None = None,
    ) -> "BillingRun":  # fmt: skip
        """Start a run of [start, end). Raises InvalidTimeRange, also for an empty range, or PeriodNotEnded.

        `counted_until` is the end of the last event time window of any of the meters. The run waits for it.
        """
        utc_start, utc_end = ensure_time_range(start, end)
        if utc_start == utc_end:
            raise InvalidTimeRange(f"A period must end after it starts at {start}.", field="end", value=end)
        policy.check_period_end(utc_end, at, counted_until=counted_until)
        return cls._create(
            cls.BillingRunStarted, id=cls.stream_id(number), timestamp=at, start=utc_start, end=utc_end,
            timezone=timezone, event_names=event_names, is_for_all_meters=is_for_all_meters, position=position, by=by,
            group_by=group_by,
            accepted_under=policy.beyond_default_grace_period(max(utc_end, counted_until or utc_end), at),
        )  # fmt: skip

    def finish(self, meters: tuple[ControlTotal, ...], customers: int, *, by: str | None, at: datetime) -> None:
        """Close the run with its control totals; do nothing if it is closed already."""
        if not self.is_closed:
            self.trigger_event(
                self.BillingRunClosed, timestamp=at, start=self.start, end=self.end, timezone=self.timezone,
                position=self.position, customers=customers, meters=meters, by=by,
            )  # fmt: skip
