"""The values that writing an evidence pack returns. They are immutable."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from ...domain.rules import Rules
from ..adjustment_results import RollForward


class EvidenceKind(StrEnum):
    """What a total of an evidence pack is.

    `current` is the total as of the checkpoint, under the rules of that time. `closed` is the frozen total of a closed
    period. `adjusted` is the total of a closed period as of the checkpoint, under the rules that it was closed under.
    """

    CURRENT = "current"
    CLOSED = "closed"
    ADJUSTED = "adjusted"


@dataclass(frozen=True, slots=True)
class EvidenceTotal:
    """A total in an evidence pack, as of a position. Numbers are exact.

    `explanation` is the file with its events. The usage in [`counted_from`, `counted_until`) was counted. Of a closed
    period, `closing_position` is that of its closing, `settlement_position` that of the last settlement, and
    `difference` and `billable_difference` are owed since; they are None for the other kinds.
    """

    meter: str
    kind: EvidenceKind
    start: datetime
    end: datetime
    counted_from: datetime
    counted_until: datetime
    position: int
    quantity: Decimal
    billable: Decimal
    sum: Decimal
    count: int
    last: Decimal | None
    event_count: int
    digest: str
    revision: int
    rules: Rules
    explanation: str
    closing_position: int | None = None
    settlement_position: int | None = None
    difference: Decimal | None = None
    billable_difference: Decimal | None = None
    roll_forward: RollForward | None = None


@dataclass(frozen=True, slots=True)
class EvidencePack:
    """An evidence pack that was written to a file.

    `position` is the number of events in the checkpoint, and `events` the number of stored events in the pack.
    `sha256` is the digest of the list of its files, and `check_program_sha256` that of the program in it: state both
    to the recipient on another way than the pack. `is_signed` is whether the list is signed.
    """

    file: str
    size_bytes: int
    customer: str
    start: datetime
    end: datetime
    totals: tuple[EvidenceTotal, ...]
    events: int
    origin: str
    position: int
    checkpoint_time: datetime
    is_signed: bool
    sha256: str
    check_program_sha256: str
