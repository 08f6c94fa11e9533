"""What the cases about closed periods share: a ledger that is told and asked step by step."""

from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from tallybook.application import ClosedPeriod, Metering

from ..notation import Clock
from .peers import EARLIEST, LIFTED, Part, PeerEvent, PeerMeter, configure, report

AT_ONCE = LIFTED.model_copy(update={"grace": None})

Bounds = tuple[datetime, datetime]


class Period(Part):
    """A period, as the cases name it."""

    start: datetime
    end: datetime

    @property
    def bounds(self) -> Bounds:
        """Its start and end."""
        return self.start, self.end


class Timeline:
    """The meter of a case, and the closed periods of its customers."""

    def __init__(self, meter: PeerMeter) -> None:
        self.meter = meter
        self.event_name = meter.event_name
        self.clock = Clock(EARLIEST)
        self.metering = Metering.open("sqlite://", policy=AT_ONCE, clock=self.clock)
        configure(self.metering, meter, {meter.event_name})

    def go_to(self, at: datetime | None) -> None:
        """Put the clock to a moment, unless none is told or it is past."""
        self.clock.now = max(self.clock.now, at or EARLIEST)

    def record(self, event: PeerEvent) -> str:
        """Record an event when the system accepted it; give the outcome."""
        self.go_to(event.received_at or event.timestamp)
        (receipt,) = self.metering.record_many([report(event)])
        return str(receipt.outcome)

    def close(self, customer: str, period: Period) -> ClosedPeriod:
        """Close a period, as of the moment that the clock shows."""
        return self.metering.close_period(self.event_name, customer, *period.bounds)

    def closed(self, customer: str, period: Period) -> ClosedPeriod | None:
        """The closing of exactly this period, if it is closed."""
        found = self.metering.closed_periods(self.event_name, customer, start=period.start, end=period.end)
        return next((one for one in found if (one.start, one.end) == period.bounds), None)

    def owed(self, customer: str, as_of: int | None = None) -> dict[Bounds, Decimal]:
        """What is owed on each closed period since it was closed; its events make it up."""
        found = self.metering.adjustments(self.event_name, customer, as_of=as_of)
        for one in found:
            assert sum(Fraction(event.change) for event in one.events) == Fraction(one.difference)
        return {(one.period.start, one.period.end): one.difference for one in found}

    def live(self, customer: str, period: Period) -> Decimal:
        """What a period comes to now, closed or not."""
        return self.metering.total(self.event_name, customer, *period.bounds).value
