"""What one can ask: the commands and questions, and all that they take and give."""

from ..domain.access_key import Scope
from ..domain.billing_cycle import BillingCycle
from ..domain.calendar import CalendarWindow
from ..domain.closed_period import ClosedPeriod, Figures
from ..domain.errors import TallybookError, UnreadableUse
from ..domain.meter_event import Cancellation
from ..domain.policy import AcceptancePolicy
from ..domain.report import Report
from ..domain.rules import EventTimeWindow, Formula, Rules
from ..projections.generations import GenerationState
from ..projections.projector import Progress
from .access_views import AccessKeyView, NewAccessKey
from .comparing import Difference, GenerationDifference, MeterDifference
from .explanation_csv import explanation_csv
from .metering import Metering, utc_now
from .results import (
    AdjustingEvent,
    Adjustment,
    ExplainedEvent,
    Explanation,
    GenerationView,
    MeterChange,
    MeterEventView,
    MeterView,
    Outcome,
    Receipt,
    Total,
    Verdict,
)
from .seals.checking import check_growth, check_proof
from .seals.checkpoint import Checkpoint
from .seals.growth import GrowthProof
from .seals.note import Note, Signature
from .seals.proof import EventProof
from .seals.results import ProvedEvent, ProvedGrowth, SealVerification, SealView
from .seals.seal_file import Seal
from .seals.verification import SealDifference
from .stores.kept import AlreadyKept, Keeper, KeptRow
from .stores.postgres_settings import PostgresSettings
from .verifying import PeriodDifference, RowDifference, TableVerification, Verification

__all__ = [
    "AcceptancePolicy",
    "AccessKeyView",
    "AdjustingEvent",
    "Adjustment",
    "AlreadyKept",
    "BillingCycle",
    "CalendarWindow",
    "Cancellation",
    "Checkpoint",
    "ClosedPeriod",
    "Difference",
    "EventProof",
    "EventTimeWindow",
    "ExplainedEvent",
    "Explanation",
    "Figures",
    "Formula",
    "GenerationDifference",
    "GenerationState",
    "GenerationView",
    "GrowthProof",
    "Keeper",
    "KeptRow",
    "MeterChange",
    "MeterDifference",
    "MeterEventView",
    "MeterView",
    "Metering",
    "NewAccessKey",
    "Note",
    "Outcome",
    "PeriodDifference",
    "PostgresSettings",
    "Progress",
    "ProvedEvent",
    "ProvedGrowth",
    "Receipt",
    "Report",
    "RowDifference",
    "Rules",
    "Scope",
    "Seal",
    "SealDifference",
    "SealVerification",
    "SealView",
    "Signature",
    "TableVerification",
    "TallybookError",
    "Total",
    "UnreadableUse",
    "Verdict",
    "Verification",
    "check_growth",
    "check_proof",
    "explanation_csv",
    "utc_now",
]
