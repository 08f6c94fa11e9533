"""What is true: meters, meter events, and the rules of counting. Pure: no I/O, no clock, no ids of its own."""

from .billing_cycle import BillingCycle
from .calendar import CalendarWindow
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
    "EventTimeWindow",
    "Formula",
    "Meter",
    "MeterEvent",
    "Report",
    "Rules",
    "TallybookError",
]
