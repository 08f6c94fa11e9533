"""The CustomerPeriods aggregate: the closed periods of one customer on one meter.

Invariant: closed periods never overlap, and the totals of a closed period never change.
"""

import hashlib
import operator
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import cast
from urllib.parse import quote

from eventsourcing.domain import TAggregate
from pydantic import Field

from .acceptance_policy import AcceptancePolicy
from .aggregate import Aggregate
from .authorship import authorship
from .closed_bounds import check_overlap, fit_counted_range
from .closed_period import ClosedPeriod, PeriodGroup, PeriodTotals, Settlement
from .decimal_fields import PlainDecimal
from .decimals import EXACT_CONTEXT
from .errors import (
    AdjustmentNotFound,
    InvalidTimeRange,
    PeriodNotClosed,
    PeriodSettled,
    SettlementExists,
)
from .rules import Rules
from .text import abbreviated_repr
from .timestamps import ensure_time_range

STREAM_PREFIX = "period/"
MAX_ENCODED_CUSTOMER_LENGTH = 1_000
"""A longer percent-encoded customer name is replaced by its SHA-256 in the stream id."""


class CustomerPeriods(Aggregate):
    """All closings of one customer's periods on one meter, reopened ones included."""

    class PeriodClosed(Aggregate.Event):
        """A period was closed with these totals."""

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
        groups: tuple[PeriodGroup, ...] = Field(default=(), exclude_if=operator.not_)
        counted_from: datetime | None = Field(default=None, exclude_if=operator.not_)
        counted_until: datetime | None = Field(default=None, exclude_if=operator.not_)
        by: str | None = Field(default=None, exclude_if=operator.not_)

        def mutate(self, aggregate: TAggregate | None) -> TAggregate | None:
            """Close the period; the first closed period of a customer on a meter creates the aggregate."""
            if aggregate is None:
                periods = CustomerPeriods.empty(self.event_name, self.customer, at=self.timestamp)
                return super().mutate(cast(TAggregate, periods))
            return super().mutate(aggregate)

        def apply(self, aggregate: "CustomerPeriods") -> None:
            """Add the closed period."""
            fields = dict(self) | {"closed_at": self.timestamp, "closed_by": self.by, "by": None, "on_behalf_of": None}
            aggregate.closed_periods.append(ClosedPeriod.model_validate(fields))

    class PeriodReopened(Aggregate.Event):
        """A closed period was reopened. Repeats the meter and the customer, so that a fold needs no lookup."""

        event_name: str
        customer: str
        start: datetime
        end: datetime
        reason: str | None
        by: str | None

        def apply(self, aggregate: "CustomerPeriods") -> None:
            """Set when, why and by whom the period was reopened."""
            closed_period = aggregate.find_closed(self.start, self.end)
            assert closed_period is not None
            changes = {
                "reopened_at": self.timestamp,
                "reason": self.reason,
                "by": self.by,
                "on_behalf_of": self.on_behalf_of,
            }
            aggregate.closed_periods[aggregate.closed_periods.index(closed_period)] = closed_period.model_copy(
                update=changes
            )

    class AdjustmentSettled(Aggregate.Event):
        """The adjustment of a closed period, as of a position, was settled by a credit note or an invoice."""

        event_name: str
        customer: str
        start: datetime
        end: datetime
        document: str
        quantity: PlainDecimal
        billable: PlainDecimal
        difference: PlainDecimal
        billable_difference: PlainDecimal
        position: int
        by: str | None

        def apply(self, aggregate: "CustomerPeriods") -> None:
            """Add the settlement to the closed period."""
            closed_period = aggregate.find_closed(self.start, self.end)
            assert closed_period is not None
            settlement = Settlement.model_validate(dict(self) | {"settled_at": self.timestamp})
            aggregate.closed_periods[aggregate.closed_periods.index(closed_period)] = closed_period.model_copy(
                update={"settlements": (*closed_period.settlements, settlement)}
            )

    def __init__(self, event_name: str, customer: str) -> None:
        self.event_name = event_name
        self.customer = customer
        self.closed_periods: list[ClosedPeriod] = []

    @staticmethod
    def stream_id(event_name: str, customer: str) -> str:
        """Return the id of the stream of a customer's closed periods on a meter.

        Some stores can't index a long name. A long name is replaced by "=" and its SHA-256; no percent-encoded name
        contains "=".
        """
        name = quote(customer, safe="")
        if len(name) > MAX_ENCODED_CUSTOMER_LENGTH:
            name = f"={hashlib.sha256(customer.encode()).hexdigest()}"
        return f"{STREAM_PREFIX}{quote(event_name, safe='')}/{name}"

    @classmethod
    def empty(cls, event_name: str, customer: str, *, at: datetime) -> "CustomerPeriods":
        """Return a customer's periods on a meter before the first one is closed; nothing is stored for them."""
        periods = cls.__new__(cls)
        periods.__base_init__(cls.stream_id(event_name, customer), 0, at)
        periods.__init__(event_name, customer)
        return periods

    def find_closed(self, start: datetime, end: datetime) -> ClosedPeriod | None:
        """Return the closed period of exactly [start, end), or None if it isn't closed. Raises InvalidTimeRange."""
        bounds = ensure_time_range(start, end)
        return next(
            (period for period in self.closed_periods if period.is_closed and (period.start, period.end) == bounds),
            None,
        )

    def find_reopened(self, start: datetime, end: datetime) -> ClosedPeriod | None:
        """Return the last closing of exactly [start, end) that was reopened, or None. Raises InvalidTimeRange."""
        bounds = ensure_time_range(start, end)
        reopened = (
            period
            for period in reversed(self.closed_periods)
            if not period.is_closed and (period.start, period.end) == bounds
        )
        return next(reopened, None)

    def gaps(self) -> list[tuple[datetime, datetime]]:
        """Return the ranges between closed periods that belong to none of them, in order.

        A gap results from a period that was never closed, or if the customer moves to a timezone in the west: the month
        begins later there.
        """
        bounds = sorted((period.start, period.end) for period in self.closed_periods if period.is_closed)
        return [(end, start) for (_, end), (start, _) in pairwise(bounds) if end < start]

    def counted_range(
        self, start: datetime, end: datetime, counted_from: datetime, counted_until: datetime
    ) -> tuple[datetime, datetime]:
        """Return the range of the usage to count in the period [start, end), given that of its event time windows.

        It begins where that of an adjoining closed period ends, and overlaps that of none. This is the range of the
        windows, unless other rules with other windows applied when the other period was closed.
        """
        closed = [
            ((period.start, period.end), period.counted_range) for period in self.closed_periods if period.is_closed
        ]
        return fit_counted_range(closed, (start, end), (counted_from, counted_until))

    def close(
        self,
        start: datetime,
        end: datetime,
        totals: PeriodTotals,
        *,
        at: datetime,
        policy: AcceptancePolicy,
        by: str | None = None,
    ) -> ClosedPeriod:
        """Close [start, end) with `totals`. If it is closed already, return the existing closing and ignore `totals`.

        Raises InvalidTimeRange (also if no event time window starts in the range), PeriodNotEnded or PeriodOverlaps.
        """
        existing = self.find_closed(start, end)
        if existing is not None:
            return existing
        utc_start, utc_end = ensure_time_range(start, end)
        if utc_start == utc_end:
            raise InvalidTimeRange(f"A period must end after it starts at {start}.", field="end", value=end)
        counted_from, counted_until = totals.counted_from or utc_start, totals.counted_until or utc_end
        if counted_from >= counted_until:
            raise InvalidTimeRange(
                f"The period from {start} to {end} can have no usage: no event time window starts in it, except "
                "those in adjoining closed periods. Close a longer period.",
                field="end",
                value=end,
            )
        policy.check_period_end(utc_end, at, counted_until=counted_until)
        closed = ((period.start, period.end) for period in self.closed_periods if period.is_closed)
        check_overlap(closed, utc_start, utc_end)
        self.trigger_event(
            self.PeriodClosed, timestamp=at, event_name=self.event_name, customer=self.customer,
            start=utc_start, end=utc_end, **dict(totals), by=by,
            accepted_under=policy.beyond_default_grace_period(max(utc_end, counted_until), at),
        )  # fmt: skip
        return self.closed_periods[-1]

    def reopen(
        self,
        start: datetime,
        end: datetime,
        *,
        reason: str | None,
        by: str | None,
        at: datetime,
        withdraw_settlements: bool = False,
    ) -> ClosedPeriod:
        """Reopen [start, end) and return its closing, which stays in the history with the reason and the author.

        Raises InvalidTimeRange or PeriodNotClosed, or PeriodSettled if it has settlements that aren't withdrawn.
        """
        closed_period = self._require_closed(start, end)
        if closed_period.settlements and not withdraw_settlements:
            documents = ", ".join(abbreviated_repr(one.document) for one in closed_period.settlements[-3:])
            raise PeriodSettled(
                f"Adjustments of the period were settled by {documents}. Reopening it withdraws these documents too: "
                "the next closing is billed in full. Set withdraw_settlements if they are withdrawn. Otherwise leave "
                "the period closed: what has changed since is owed as an adjustment.",
                field="withdraw_settlements",
                value=False,
            )
        index = self.closed_periods.index(closed_period)
        self.trigger_event(
            self.PeriodReopened, timestamp=at, event_name=self.event_name, customer=self.customer,
            start=closed_period.start, end=closed_period.end, reason=reason, by=by,
        )  # fmt: skip
        return self.closed_periods[index]

    def settle(
        self,
        start: datetime,
        end: datetime,
        *,
        quantity: Decimal,
        billable: Decimal,
        position: int,
        document: str,
        by: str | None,
        at: datetime,
    ) -> ClosedPeriod:
        """Settle what is owed on [start, end) as of a position, given the totals of the period there.

        Returns the closed period, unchanged if `document` settled it as of this position already. Raises
        InvalidTimeRange or PeriodNotClosed; SettlementExists if the document settled it as of another position; and
        AdjustmentNotFound if the period is invoiced as of this position or a later one already.
        """
        closed_period = self._require_closed(start, end)
        existing = next((one for one in closed_period.settlements if one.document == document), None)
        if existing is not None and existing.position != position:
            raise SettlementExists(
                f"{abbreviated_repr(document)} settled the period as of position {existing.position}. Settle what has "
                "changed since with another document.",
                field="document",
                value=document,
            )
        if existing is not None:
            return closed_period
        invoiced = closed_period.invoiced
        if position <= invoiced.position:
            raise nothing_owed(closed_period, position)
        index = self.closed_periods.index(closed_period)
        self.trigger_event(
            self.AdjustmentSettled, timestamp=at, event_name=self.event_name, customer=self.customer,
            start=closed_period.start, end=closed_period.end, document=document, quantity=quantity, billable=billable,
            difference=EXACT_CONTEXT.subtract(quantity, invoiced.quantity),
            billable_difference=EXACT_CONTEXT.subtract(billable, invoiced.billable), position=position, by=by,
        )  # fmt: skip
        return self.closed_periods[index]

    def _require_closed(self, start: datetime, end: datetime) -> ClosedPeriod:
        closed_period = self.find_closed(start, end)
        if closed_period is None:
            raise period_not_closed(self.event_name, self.customer, start, end)
        return closed_period

    @classmethod
    def close_at_version(
        cls, event_name: str, customer: str, version: int, bounds: tuple[datetime, datetime], totals: PeriodTotals,
        *, at: datetime, by: str | None = None,
    ) -> "CustomerPeriods.PeriodClosed":  # fmt: skip
        """Return the closing of a period that ends and overlaps as checked, as the next event of a stream.

        A billing run closes the periods of many customers so, without loading all of their closings.
        """
        return cls.PeriodClosed(
            originator_id=cls.stream_id(event_name, customer), originator_version=version + 1, recorded_at=at,
            event_name=event_name, customer=customer, start=bounds[0], end=bounds[1], **dict(totals), **authorship(by),
        )  # fmt: skip


def period_not_closed(event_name: str, customer: str, start: datetime, end: datetime) -> PeriodNotClosed:
    """Return the error that a period is not closed."""
    return PeriodNotClosed(
        f"The period from {start} to {end} of {abbreviated_repr(customer)} on {event_name!r} is not closed.",
        field="start",
        value=start,
    )


def nothing_owed(period: ClosedPeriod, position: int) -> AdjustmentNotFound:
    """Return the error that a closed period has no adjustment as of a position."""
    return AdjustmentNotFound(
        f"Nothing is owed on the period from {period.start} to {period.end} of {abbreviated_repr(period.customer)} on "
        f"{period.event_name!r} as of position {position}: it is invoiced as of position {period.invoiced.position}.",
        field="start",
        value=period.start,
    )
