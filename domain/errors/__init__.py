"""Every error that Tallybook raises, in a tree by what the caller can do about it.

Catch a category (`InvalidRequest`, `NotFound`, `Conflict`, `PermissionDenied`, `Unavailable`, `Corrupted`) or a single
class. Each class has a stable `code`, which is Stripe's where Stripe has one, and the status of its HTTP response.
"""

# docs/errors.md lists the classes in this order.
# isort: off
from .base import Conflict, Corrupted, InvalidRequest, NotFound, PermissionDenied, TallybookError, Unavailable
from .meters import MeterAlreadyExists, MeterInactive, MeterIsDerived, MeterNotFound
from .meter_events import (
    CancellationNotFound,
    DuplicateMeterEvent,
    InvalidCancellation,
    InvalidIdentifier,
    InvalidMeterEvent,
    InvalidPayload,
    InvalidTimestamp,
    InvalidValue,
    MeterEventNotFound,
    MissingCustomer,
    MissingDimension,
    MissingValue,
    TimestampInFuture,
    TimestampTooFarInPast,
    TooManyCombinations,
    TooManyDigits,
)
from .queries import (
    InvalidAsOf,
    InvalidEffectiveFrom,
    InvalidParameter,
    InvalidTimeRange,
    RulesChangeInRange,
    UnknownTimezone,
)
from .closed_periods import (
    AdjustmentNotFound,
    BillingRunInProgress,
    CustomerWithoutUsage,
    PeriodNotClosed,
    PeriodNotEnded,
    PeriodOverlaps,
    PeriodSettled,
    SettlementExists,
)
from .access_keys import AccessKeyNotFound, InvalidAccessKey
from .ledger import (
    BackupNotSupported,
    ClockBehind,
    DatabasePermissionDenied,
    InvalidLedgerUrl,
    LedgerCorrupted,
    LedgerNotEmpty,
    LedgerUnavailable,
    NotALedger,
    ProjectionStopped,
    UnsupportedSchemaVersion,
)
from .generations import (
    GenerationInUse,
    GenerationNotFound,
    IncompatibleEvent,
    IncompatibleRules,
    PreviewChanged,
    RebuildInProgress,
    RulesConflict,
)
from .usage_import import ImportRunNotFound, InvalidImportFile
from .checkpoints import (
    CheckpointDestinationUnavailable,
    CheckpointMismatch,
    InvalidCheckpointFile,
    InvalidProof,
    InvalidSigningKey,
    NotCheckpointed,
    CheckpointInProgress,
)
from .jobs import JobNotFound
from .usage_import import InvalidUsageSource, UsageSourceUnavailable
from .jobs import TaskInProgress, TaskNotFound
from .archive import ArchiveInUse, ArchiveMismatch, ArchiveUnavailable, InvalidArchive
# isort: on

__all__ = [
    "AccessKeyNotFound",
    "AdjustmentNotFound",
    "ArchiveInUse",
    "ArchiveMismatch",
    "ArchiveUnavailable",
    "BackupNotSupported",
    "BillingRunInProgress",
    "CancellationNotFound",
    "CheckpointDestinationUnavailable",
    "CheckpointInProgress",
    "CheckpointMismatch",
    "ClockBehind",
    "Conflict",
    "Corrupted",
    "CustomerWithoutUsage",
    "DatabasePermissionDenied",
    "DuplicateMeterEvent",
    "GenerationInUse",
    "GenerationNotFound",
    "ImportRunNotFound",
    "IncompatibleEvent",
    "IncompatibleRules",
    "InvalidAccessKey",
    "InvalidArchive",
    "InvalidAsOf",
    "InvalidCancellation",
    "InvalidCheckpointFile",
    "InvalidEffectiveFrom",
    "InvalidIdentifier",
    "InvalidImportFile",
    "InvalidLedgerUrl",
    "InvalidMeterEvent",
    "InvalidParameter",
    "InvalidPayload",
    "InvalidProof",
    "InvalidRequest",
    "InvalidSigningKey",
    "InvalidTimeRange",
    "InvalidTimestamp",
    "InvalidUsageSource",
    "InvalidValue",
    "JobNotFound",
    "LedgerCorrupted",
    "LedgerNotEmpty",
    "LedgerUnavailable",
    "MeterAlreadyExists",
    "MeterEventNotFound",
    "MeterInactive",
    "MeterIsDerived",
    "MeterNotFound",
    "MissingCustomer",
    "MissingDimension",
    "MissingValue",
    "NotALedger",
    "NotCheckpointed",
    "NotFound",
    "PeriodNotClosed",
    "PeriodNotEnded",
    "PeriodOverlaps",
    "PeriodSettled",
    "PermissionDenied",
    "PreviewChanged",
    "ProjectionStopped",
    "RebuildInProgress",
    "RulesChangeInRange",
    "RulesConflict",
    "SettlementExists",
    "TallybookError",
    "TaskInProgress",
    "TaskNotFound",
    "TimestampInFuture",
    "TimestampTooFarInPast",
    "TooManyCombinations",
    "TooManyDigits",
    "Unavailable",
    "UnknownTimezone",
    "UnsupportedSchemaVersion",
    "UsageSourceUnavailable",
]
