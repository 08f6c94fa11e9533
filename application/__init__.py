"""What one can ask: the commands and questions, and all that they take and give."""

from ..domain.calendar import CalendarWindow
from ..domain.errors import TallybookError
from ..domain.meter_event import Cancellation
from ..domain.policy import AcceptancePolicy
from ..domain.report import Report
from ..domain.rules import EventTimeWindow, Formula
from ..projections.projector import Progress
from .metering import Metering, utc_now
from .results import Explanation, MeterEventView, MeterView, Outcome, Receipt, Total, Verdict
from .seals.checking import check_growth, check_proof
from .seals.growth import GrowthProof
from .seals.proof import EventProof
from .seals.results import ProvedEvent, ProvedGrowth, SealVerification, SealView
from .seals.verification import Difference

__all__ = [
    "AcceptancePolicy",
    "CalendarWindow",
    "Cancellation",
    "Difference",
    "EventProof",
    "EventTimeWindow",
    "Explanation",
    "Formula",
    "GrowthProof",
    "MeterEventView",
    "MeterView",
    "Metering",
    "Outcome",
    "Progress",
    "ProvedEvent",
    "ProvedGrowth",
    "Receipt",
    "Report",
    "SealVerification",
    "SealView",
    "TallybookError",
    "Total",
    "Verdict",
    "check_growth",
    "check_proof",
    "utc_now",
]
