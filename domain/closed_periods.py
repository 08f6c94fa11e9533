"""The closed periods of a customer on a meter, which never overlap, also when several close them at once."""

import hashlib
from datetime import datetime
from typing import cast
from urllib.parse import quote

from eventsourcing.domain import TAggregate

from .aggregate import Aggregate
from .closed_period import ClosedPeriod, Figures
from .errors import InvalidTimeRange, PeriodNotClosed, PeriodOverlaps
from .instants import time_range
from .policy import AcceptancePolicy
from .quantities import PlainDecimal
from .rules import Rules
from .texts import shown

STREAM_PREFIX = "period/"
LONGEST_NAME = 1_000
"""How many characters of a customer's name, percent-encoded, are in the name of a stream at most."""


class ClosedPeriods(Aggregate):
    """All periods of one customer on one meter that were ever closed. Those that stand never overlap."""

    class PeriodClosed(Aggregate.Event):
        """The figures of a period were frozen."""

        event_name: str
        customer: str
        start: datetime
        end: datetime
        quantity: PlainDecimal
        billable: PlainDecimal
        sum: PlainDecimal
        count: int
        last: PlainDecimal | None
        rules: Rules
        revision: int
        position: int
        digest: str

        def mutate(self, aggregate: TAggregate | None) -> TAggregate | None:
            """Close the period; the first one of a customer on a meter begins the aggregate too."""
            if aggregate is None:
                begun = ClosedPeriods.begin(self.event_name, self.customer, at=self.timestamp)
                return super().mutate(cast(TAggregate, begun))
            return super().mutate(aggregate)

        def apply(self, aggregate: "ClosedPeriods") -> None:
            """Keep the closing."""
            closing = dict(self) | {"closed_at": self.timestamp}
            aggregate.closings.append(ClosedPeriod.model_validate(closing))

    class PeriodReopened(Aggregate.Event):
        """The figures of a closed period are frozen no more. Names whose they were, so that no fold has to look."""

        event_name: str
        customer: str
        start: datetime
        end: datetime
        reason: str | None
        by: str | None

        def apply(self, aggregate: "ClosedPeriods") -> None:
            """Mark the closing that stood."""
            closing = aggregate.standing(self.start, self.end)
            assert closing is not None
            reopened = {"reopened_at": self.timestamp, "reason": self.reason, "by": self.by}
            aggregate.closings[aggregate.closings.index(closing)] = closing.model_copy(update=reopened)

    def __init__(self, event_name: str, customer: str) -> None:
        self.event_name = event_name
        self.customer = customer
        self.closings: list[ClosedPeriod] = []

    @staticmethod
    def stream(event_name: str, customer: str) -> str:
        """The id of the stream that holds a customer's closed periods on a meter.

        Not all stores can index a long name: its SHA-256 stands for it, after a sign that no encoded name has.
        """
        name = quote(customer, safe="")
        if len(name) > LONGEST_NAME:
            name = f"={hashlib.sha256(customer.encode()).hexdigest()}"
        return f"{STREAM_PREFIX}{quote(event_name, safe='')}/{name}"

    @classmethod
    def begin(cls, event_name: str, customer: str, *, at: datetime) -> "ClosedPeriods":
        """A customer's periods on a meter before the first one is closed: there is nothing to store of them yet."""
        begun = cls.__new__(cls)
        begun.__base_init__(cls.stream(event_name, customer), 0, at)
        begun.__init__(event_name, customer)
        return begun

    def standing(self, start: datetime, end: datetime) -> ClosedPeriod | None:
        """The closing of exactly [start, end), if it is closed and not reopened. Raises InvalidTimeRange."""
        bounds = time_range(start, end)
        return next((one for one in self.closings if one.is_standing and (one.start, one.end) == bounds), None)

    def close(
        self, start: datetime, end: datetime, figures: Figures, *, at: datetime, policy: AcceptancePolicy
    ) -> ClosedPeriod:
        """Freeze the figures of [start, end); a second time, give the first closing, whatever the figures are now.

        Raises InvalidTimeRange, also for an empty range; PeriodNotOver; PeriodOverlaps.
        """
        standing = self.standing(start, end)
        if standing is not None:
            return standing
        since, until = time_range(start, end)
        if since == until:
            raise InvalidTimeRange(f"A period must end after it starts at {start}.", field="end", value=end)
        policy.check_period_end(until, at)
        self._check_overlap(since, until)
        self.trigger_event(
            self.PeriodClosed, timestamp=at, event_name=self.event_name, customer=self.customer,
            start=since, end=until, **dict(figures),
        )  # fmt: skip
        return self.closings[-1]

    def reopen(
        self, start: datetime, end: datetime, *, reason: str | None, by: str | None, at: datetime
    ) -> ClosedPeriod:
        """Let [start, end) be closed anew; give its closing, which is kept, with who asked and why.

        Raises InvalidTimeRange or PeriodNotClosed.
        """
        standing = self.standing(start, end)
        if standing is None:
            raise PeriodNotClosed(
                f"The period from {start} to {end} of {shown(self.customer)} on {self.event_name!r} is not closed.",
                field="start",
                value=start,
            )
        place = self.closings.index(standing)
        self.trigger_event(
            self.PeriodReopened, timestamp=at, event_name=self.event_name, customer=self.customer,
            start=standing.start, end=standing.end, reason=reason, by=by,
        )  # fmt: skip
        return self.closings[place]

    def _check_overlap(self, start: datetime, end: datetime) -> None:
        for one in self.closings:
            if one.is_standing and one.start < end and start < one.end:
                raise PeriodOverlaps(
                    f"The period overlaps the closed one from {one.start} to {one.end}; reopen that first.",
                    field="start",
                    value=start,
                )
