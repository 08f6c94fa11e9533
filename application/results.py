"""The values that the calls of Metering return. They are immutable."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from ..domain.decimals import ZERO
from ..domain.errors import InvalidRequest, TallybookError
from ..domain.event_time_window import EventTimeWindow
from ..domain.formulas import Formula
from ..domain.rules import Rules
from ..projections.models import GenerationState


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup of a ledger: its file, which was checked, and the position of the last event in it.

    `sha256` is the digest of the file, to compare a copy of it with.
    """

    file: str
    size_bytes: int
    position: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LedgerCopy:
    """A copy of a ledger: the location it was written to, and the position of the last event in it.

    `root` is the root of the Merkle tree of its events in base64, as in a checkpoint of that position: it was computed
    from the events of both ledgers. `later_events` were recorded in the original while it was copied.
    """

    location: str
    position: int
    key_value_entries: int
    root: str
    later_events: int


class Outcome(StrEnum):
    """The outcome of recording a meter event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, init=False)
class Receipt:
    """The result of recording one meter event.

    `position` is the ledger position of the event with this identifier: this event if it was accepted, the earlier one
    if it is a duplicate or a conflict, None if it was rejected. `error` is set for a conflict and a rejected event.
    """

    identifier: str | None
    position: int | None
    outcome: Outcome
    error: TallybookError | None = None

    def __init__(
        self, identifier: str | None, position: int | None, outcome: Outcome, error: TallybookError | None = None
    ) -> None:
        # A batch has thousands of receipts. A generated __init__ of a frozen dataclass takes twice as long.
        set_identifier, set_position, set_outcome, set_error = _RECEIPT_SETTERS
        set_identifier(self, identifier)
        set_position(self, position)
        set_outcome(self, outcome)
        set_error(self, error)


_RECEIPT_SETTERS = [vars(Receipt)[field.name].__set__ for field in fields(Receipt)]


class Receipts(list[Receipt]):
    """The receipts of a batch, in the order of its meter events, with their number by outcome."""

    def count_of(self, outcome: Outcome) -> int:
        """Return how many meter events had this outcome."""
        return [receipt.outcome for receipt in self].count(outcome)

    @property
    def accepted(self) -> int:
        """The number of new meter events."""
        return self.count_of(Outcome.ACCEPTED)

    @property
    def duplicates(self) -> int:
        """The number of meter events that were recorded before with the same content."""
        return self.count_of(Outcome.DUPLICATE)

    @property
    def conflicts(self) -> int:
        """The number of meter events whose identifier has other content."""
        return self.count_of(Outcome.CONFLICT)

    @property
    def rejected(self) -> int:
        """The number of invalid meter events."""
        return self.count_of(Outcome.REJECTED)


class MeterEventsRejected(InvalidRequest):
    """Some meter events of `record_many(…, strict=True)` were rejected or in conflict; the others are recorded."""

    code = "meter_events_rejected"

    def __init__(self, message: str, receipts: Receipts) -> None:
        super().__init__(message, field="meter_events")
        self.receipts = receipts


@dataclass(frozen=True, slots=True)
class Total:
    """The total of one customer on one meter in [start, end); of all customers if `customer` is None.

    `value` is the quantity under the formula, 0 if there is no usage. `billable` is `value`, rounded by the rules of
    the meter, or 0 if it is negative. All numbers are exact decimals. `last`, `min` and `max` are None if there is no
    usage, or if it has no values. `start` and `end` are as passed by the caller; those of summaries are in UTC.

    If `start` or `end` lies inside an event time window of the meter, `counted_from` or `counted_until` is the end of
    that window in UTC: the total has the usage of the windows that start in [start, end). Otherwise they are None.

    `groups` are the totals by dimension values, if the query asked for them; the `dimensions` of each are its values,
    None for an absent optional dimension. Under the formulas sum and count their values add up to `value`, unless a
    multiplier has no finite decimal form: the value of each group is rounded then.
    """

    value: Decimal
    sum: Decimal
    count: int
    last: Decimal | None
    billable: Decimal
    customer: str | None
    start: datetime
    end: datetime
    min: Decimal | None = None
    max: Decimal | None = None
    dimensions: dict[str, str | None] = field(default_factory=dict[str, str | None], hash=False)
    groups: tuple["Total", ...] = ()
    counted_from: datetime | None = None
    counted_until: datetime | None = None


class Verdict(StrEnum):
    """Whether a meter event is counted, or why it is not."""

    COUNTED = "counted"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class RevokedCancellationView:
    """A cancellation of a meter event that was revoked: when, why and by whom both happened."""

    cancelled_at: datetime
    reason: str | None
    by: str | None
    revoked_at: datetime
    revocation_reason: str | None
    revoked_by: str | None


@dataclass(frozen=True, slots=True)
class MeterEventView:
    """A meter event with its verdict. Times are in UTC.

    `value` is None if the meter counts events or unique texts, or if the event is filtered. `revision` is that of the
    rules that the verdict follows from: they apply to usage of its time. `superseded_by` is the identifier of the event
    that arrived later in the same window and is counted instead. `cancelled_at`, `reason`, `by` and `on_behalf_of`
    describe the cancellation, if there is one. `unique_value` is the text that the formula unique_count counts.
    `revoked` are the earlier cancellations, which were revoked, oldest first.
    """

    event_name: str
    identifier: str
    customer: str
    value: Decimal | None
    dimensions: dict[str, str | None]
    payload: dict[str, str]
    occurred_at: datetime
    recorded_at: datetime
    position: int
    verdict: Verdict
    revision: int
    superseded_by: str | None = None
    cancelled_at: datetime | None = None
    reason: str | None = None
    by: str | None = None
    unique_value: str | None = None
    revoked: tuple[RevokedCancellationView, ...] = ()
    on_behalf_of: str | None = None


@dataclass(frozen=True, slots=True)
class ExplainedEvent(MeterEventView):
    """A meter event behind a total, and its contribution: 0 unless it is counted."""

    contribution: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every meter event behind a total, ordered by (occurred_at, position). The contributions add up to its value.

    `position` is the ledger position that the result is based on, and `revision` that of the rules. `digest` is the
    SHA-256 of the counted events, as in a closed period. `dimension_keys` are all keys of the dimensions of the events,
    which can be different ones if the rules change in the range.
    """

    total: Total
    formula: Formula
    event_time_window: EventTimeWindow | None
    revision: int
    position: int
    digest: str
    dimension_keys: tuple[str, ...]
    events: tuple[ExplainedEvent, ...]


@dataclass(frozen=True, slots=True)
class ExplanationStream:
    """An Explanation whose events are read while they are iterated, once, so that any number of them fits in memory.

    `event_count` is their number; the other fields are those of an Explanation.
    """

    total: Total
    formula: Formula
    event_time_window: EventTimeWindow | None
    revision: int
    position: int
    digest: str
    dimension_keys: tuple[str, ...]
    event_count: int
    events: Iterator[ExplainedEvent]


@dataclass(frozen=True, slots=True)
class ExplanationPage:
    """An Explanation with some of its events: `events` are a part of the `matching_count` selected ones.

    `event_count` is the number of all events and `verdict_counts` by verdict. `corrections` are the ledger positions of
    the cancellations, and of their revocations, among all events, in order. The other fields are those of an
    Explanation.
    """

    total: Total
    formula: Formula
    event_time_window: EventTimeWindow | None
    revision: int
    position: int
    digest: str
    dimension_keys: tuple[str, ...]
    event_count: int
    verdict_counts: dict[Verdict, int] = field(hash=False)
    corrections: tuple[int, ...]
    matching_count: int
    events: tuple[ExplainedEvent, ...]


@dataclass(frozen=True, slots=True)
class ChangedEvent(MeterEventView):
    """A meter event whose verdict changed between two points; `before` is None if it was not recorded at the first."""

    before: Verdict | None = None


@dataclass(frozen=True, slots=True)
class TotalChange:
    """A total as of two points of the ledger: `before` at the position `since`, `after` at `position`.

    `events` are a part of the `event_count` events whose verdict differs, in order of time. If the rules have changed
    in between, `before` is under the earlier ones, and the events don't explain all of the `difference`.
    """

    before: Total
    after: Total
    difference: Decimal
    since: int
    position: int
    event_count: int
    events: tuple[ChangedEvent, ...]


@dataclass(frozen=True, slots=True)
class GenerationView:
    """A generation of the read models, projected up to `position`; `head` is the position of the ledger's newest event.

    `rules` are the newest rules it was built under that differ from the current ones, by event name, and
    `effective_from` the time of usage from which on they apply, None for all usage.
    """

    number: int
    state: GenerationState
    position: int
    head: int
    rules: dict[str, Rules]
    effective_from: dict[str, datetime | None]
