"""What is true: meters, meter events, closed periods, the rules of counting. No I/O, no clock, no ids of its own."""

from .billing_cycle import BillingCycle
from .calendar import CalendarWindow
from .closed_period import ClosedPeriod, Figures
from .closed_periods import ClosedPeriods
from .errors import TallybookError
from .meter import Meter
from .meter_event import Cancellation, MeterEvent
from .policy import AcceptancePolicy
from .report import Report
from .rules import EventTimeWindow, Formula, Rules

__all__ = [
    "AcceptancePolicy",
    "BillingCycle",
    "CalendarWindow",
    "Cancellation",
    "ClosedPeriod",
    "ClosedPeriods",
    "EventTimeWindow",
    "Figures",
    "Formula",
    "Meter",
    "MeterEvent",
    "Report",
    "Rules",
    "TallybookError",
]
