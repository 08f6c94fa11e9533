"""The domain: meters, meter events, closed periods, access keys and the rules of counting.

The domain does no I/O, reads no clock and generates no ids. Times and ids are arguments.
"""

from .acceptance_policy import AcceptancePolicy
from .access_key import AccessKey, Scope
from .billing_cycle import BillingCycle
from .calendar import CalendarWindow
from .closed_period import ClosedPeriod, PeriodTotals
from .customer_periods import CustomerPeriods
from .errors import TallybookError
from .event_time_window import EventTimeWindow
from .formulas import Formula
from .meter import Meter
from .meter_event import Cancellation, MeterEvent, Revocation
from .meter_event_input import MeterEventInput
from .rules import Rules

__all__ = [
    "AcceptancePolicy",
    "AccessKey",
    "BillingCycle",
    "CalendarWindow",
    "Cancellation",
    "ClosedPeriod",
    "CustomerPeriods",
    "EventTimeWindow",
    "Formula",
    "Meter",
    "MeterEvent",
    "MeterEventInput",
    "PeriodTotals",
    "Revocation",
    "Rules",
    "Scope",
    "TallybookError",
]
