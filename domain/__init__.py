"""What is true: meters, meter events, closed periods, access keys, the rules of counting.

No I/O, no clock, no ids of its own.
"""

from .access_key import AccessKey, Scope
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
    "AccessKey",
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
    "Scope",
    "TallybookError",
]
