"""A ledger for the cases about closed periods, changed and queried step by step."""

from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from tallybook.application import ClosedPeriod, Metering

from ..notation import Clock
from .vendor_cases import EARLIEST, LIFTED, VendorEvent, event_input
from .vendor_meter import Part, VendorMeter, configure

WITHOUT_GRACE_PERIOD = LIFTED.model_copy(update={"grace_period": None})

Bounds = tuple[datetime, datetime]


class Period(Part):
    """A period in a case."""

    start: datetime
    end: datetime

    @property
    def bounds(self) -> Bounds:
        """The start and end of the period."""
        return self.start, self.end


class Timeline:
    """The meter of a case, and the closed periods of its customers."""

    def __init__(self, meter: VendorMeter) -> None:
        self.meter = meter
        self.event_name = meter.event_name
        self.clock = Clock(EARLIEST)
        self.metering = Metering.open("sqlite://", policy=WITHOUT_GRACE_PERIOD, clock=self.clock)
        configure(self.metering, meter, {meter.event_name})

    def advance_to(self, at: datetime | None) -> None:
        """Set the clock to a moment, unless it is None or in the past."""
        self.clock.now = max(self.clock.now, at or EARLIEST)

    def record(self, event: VendorEvent) -> str:
        """Record an event at the time it was received, and return the outcome."""
        self.advance_to(event.received_at or event.timestamp)
        (receipt,) = self.metering.record_many([event_input(event)])
        return str(receipt.outcome)

    def close(self, customer: str, period: Period) -> ClosedPeriod:
        """Close a period at the current time of the clock."""
        return self.metering.periods.close(self.event_name, customer, *period.bounds, allow_empty=True)

    def closed_period_of(self, customer: str, period: Period) -> ClosedPeriod | None:
        """Return the closing of exactly this period; None if it is not closed."""
        periods = self.metering.periods.list(self.event_name, customer, start=period.start, end=period.end)
        return next(
            (closed_period for closed_period in periods if (closed_period.start, closed_period.end) == period.bounds),
            None,
        )

    def adjustments(self, customer: str, as_of: int | None = None) -> dict[Bounds, Decimal]:
        """Return the adjustment of each closed period, after checking that its events add up to it."""
        found_adjustments = self.metering.periods.adjustments(self.event_name, customer, as_of=as_of)
        for adjustment in found_adjustments:
            assert sum(Fraction(event.change) for event in adjustment.events) == Fraction(adjustment.difference)
        return {
            (adjustment.period.start, adjustment.period.end): adjustment.difference for adjustment in found_adjustments
        }

    def current_total(self, customer: str, period: Period) -> Decimal:
        """Return the current total of a period, closed or not."""
        return self.metering.total(self.event_name, customer, *period.bounds).value
