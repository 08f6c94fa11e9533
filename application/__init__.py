"""What one can ask: the commands and questions, and all that they take and give."""

from ..domain.calendar import CalendarWindow
from ..domain.closed_period import ClosedPeriod
from ..domain.errors import TallybookError
from ..domain.meter_event import Cancellation
from ..domain.policy import AcceptancePolicy
from ..domain.report import Report
from ..domain.rules import EventTimeWindow, Formula
from ..projections.projector import Progress
from .metering import Metering, utc_now
from .results import (
    AdjustingEvent,
    Adjustment,
    ExplainedEvent,
    Explanation,
    MeterEventView,
    MeterView,
    Outcome,
    Receipt,
    Total,
    Verdict,
)

__all__ = [
    "AcceptancePolicy",
    "AdjustingEvent",
    "Adjustment",
    "CalendarWindow",
    "Cancellation",
    "ClosedPeriod",
    "EventTimeWindow",
    "ExplainedEvent",
    "Explanation",
    "Formula",
    "MeterEventView",
    "MeterView",
    "Metering",
    "Outcome",
    "Progress",
    "Receipt",
    "Report",
    "TallybookError",
    "Total",
    "Verdict",
    "utc_now",
]
