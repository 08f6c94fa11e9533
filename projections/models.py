"""The values that projections read and write."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import takewhile
from typing import NamedTuple

import msgspec

from ..domain.counting import RevokedCancellation, UsageRecord
from ..domain.meter import Meter
from ..domain.rules import Rules
from ..domain.rules_schedule import ALWAYS, RulesPart, RulesSchedule
from ..domain.totals import Totals
from .blocks import BucketKey, UsageBlock
from .change_span import ChangeSpan

LedgerEvent = tuple[int, str, bytes]
"""Position, topic and state of a stored event."""


class PinnedMeter(NamedTuple):
    """The rules over time of a meter, and the meter whose events it counts if it is derived."""

    parts: tuple[RulesPart, ...]
    source: str | None = None

    @classmethod
    def of(cls, meter: Meter) -> "PinnedMeter":
        """Return the present rules over time of a meter."""
        return cls(meter.schedule.distinct_parts, meter.source)


PinnedRules = Mapping[str, PinnedMeter]
"""The rules over time of meters, by event name."""


class GenerationState(StrEnum):
    """The state of a generation: only the live one answers queries."""

    BUILDING = "building"
    READY = "ready"
    LIVE = "live"
    RETIRED = "retired"


class Generation(NamedTuple):
    """One complete build of the read models, projected up to `position`.

    `pinned` are the rules over time of the meters that are folded under other rules than those of their configuration,
    and of derived meters: these count the events of their source from the first on only if they are pinned.
    `revisions` are the revisions of the rules in force when the generation was built or retired; they are the baseline
    of a comparison.
    """

    number: int
    state: GenerationState
    pinned: PinnedRules
    revisions: Mapping[str, int]
    position: int


PAGE_SIZE = 45_000
"""Events that are read and projected together."""
NON_USAGE_MARKER = b"\x02"
"""Replaces each other event among the states of recorded meter events; valid JSON never contains it."""
MAX_FEW_EVENTS = 50
"""So few events are read as rows, together with the event before them, and are one page, which is never split."""
CHUNK_SIZE = 250
"""Chunks of a page end at positions that are multiples of this. So many decoded events fit into a processor's cache."""


class RawPage(NamedTuple):
    """Stored events as one document: chunks of recorded meter events, the other events, and the last position.

    Each line of `usage_json` is a chunk: the states of its meter events, separated by commas, with NON_USAGE_MARKER in
    place of each other event. That is the content of a JSON array if all states are valid JSON, which isn't checked
    yet. If the page is too long for the database, it is empty and ends at the position before it. `last_event` is the
    event at the last position, if it was read as well.
    """

    usage_json: bytes
    other_events: Sequence[LedgerEvent]
    last_position: int
    last_event: LedgerEvent | None = None


class AsOf(NamedTuple):
    """A point in the ledger: the events up to `position` were known. `MeterQueryFactory` resolves a time to one."""

    position: int

    def visible(self, record: UsageRecord) -> UsageRecord | None:
        """Return the record as known then: None if it was recorded later, not cancelled if it was cancelled later."""
        if not self.includes(record.position):
            return None
        for index, span in enumerate(record.revoked):
            if not self.includes(span.cancelled_position):
                return _with_cancellation(record, None, record.revoked[:index])
            if not self.includes(span.revoked_position):
                return _with_cancellation(record, span.cancelled_position, record.revoked[:index])
        if record.cancelled_position is None or self.includes(record.cancelled_position):
            return record
        return _with_cancellation(record, None, record.revoked)

    def includes(self, position: int) -> bool:
        """Return whether the event at a position was known."""
        return position <= self.position

    def includes_all(self, changes: ChangeSpan) -> bool:
        """Return whether all changes of the span were known."""
        return self.includes(changes.last_position)

    def includes_some(self, changes: ChangeSpan) -> bool:
        """Return whether a change of the span was known."""
        return self.includes(changes.first_position)

    def counted(self, records: Iterable[UsageRecord]) -> list[UsageRecord]:
        """Return the records that were known and neither cancelled nor filtered then."""
        position = self.position  # inlined `includes`, because this runs for every record of a block
        return [
            record
            for record in records
            if record.position <= position
            and (record.cancelled_position is None or record.cancelled_position > position or record.revoked)
            and not record.is_filtered
            and (not record.revoked or self._is_active(record))
        ]

    def _is_active(self, record: UsageRecord) -> bool:
        visible = self.visible(record)
        return visible is not None and visible.is_active


def _with_cancellation(
    record: UsageRecord, position: int | None, revoked: tuple[RevokedCancellation, ...]
) -> UsageRecord:
    return msgspec.structs.replace(record, cancelled_position=position, revoked=revoked)


AS_OF_HEAD = AsOf(position=sys.maxsize)
"""The point at which all stored events are known."""


class RulesRevision(NamedTuple):
    """A revision of the rules of a meter: the event at `position` put it into effect for usage from `start` on."""

    revision: int
    rules: Rules
    position: int
    recorded_at: int
    start: int = ALWAYS


class FoldedRules(NamedTuple):
    """The rules that the usage of a meter from `start` on was folded under; its rows have the number `meter_id`."""

    meter_id: int
    start: int
    rules: Rules


@dataclass(frozen=True)
class ProjectedMeter:
    """A meter in the read models.

    `folded` are the rules that its usage was folded under, in order of time. `history` has all revisions of its rules
    in the ledger. What follows from both is computed once: every query needs it.

    A derived meter has a `source`, whose events it counts. Its `history` is empty before it is configured. Its `folded`
    rules are empty in a generation that was started before: that one lacks earlier events, so it isn't current.
    """

    event_name: str
    folded: tuple[FoldedRules, ...]
    history: tuple[RulesRevision, ...]
    source: str | None = None

    @property
    def recorded_name(self) -> str:
        """The event name of the events that the meter counts: its own, or that of its source."""
        return self.source or self.event_name

    @property
    def row_id(self) -> int:
        """The number that identifies the meter: that of its first rows; one that no rows have if it has none."""
        return self.folded[0].meter_id if self.folded else -self.history[0].position

    def is_known(self, as_of: AsOf | None) -> bool:
        """Return whether the meter is configured, and was then if it is derived: its source has older events."""
        if not self.history:
            return False
        configured = self.history[0]
        return as_of is None or self.source is None or as_of.includes(configured.position)

    def schedule(self, as_of: AsOf | None = None) -> RulesSchedule:
        """Return the rules over time that were known then; the first revision if the meter was configured later."""
        return self._newest_schedule if as_of is None else self._schedule(as_of)

    def schedule_of_revision(self, revision: int) -> RulesSchedule:
        """Return the rules over time when a revision was the newest."""
        return self._schedule_of([known for known in self.history if known.revision <= revision])

    @cached_property
    def folded_schedule(self) -> RulesSchedule:
        """The rules over time that its usage was folded under."""
        return RulesSchedule.of_parts([RulesPart(start, rules) for _, start, rules in self.folded])

    @cached_property
    def is_current(self) -> bool:
        """Whether its usage is folded under the newest revision of the rules, if there is one: if it is configured."""
        return not self.history or self._newest_schedule.distinct_parts == self.folded_schedule.distinct_parts

    @cached_property
    def _newest_schedule(self) -> RulesSchedule:
        return self._schedule(None)

    def _schedule(self, as_of: AsOf | None) -> RulesSchedule:
        if as_of is None:
            return self._schedule_of(self.history)
        first, *changes = self.history
        known = takewhile(lambda change: as_of.includes(change.position), changes)
        return self._schedule_of([first, *known])

    @staticmethod
    def _schedule_of(revisions: Sequence[RulesRevision]) -> RulesSchedule:
        first, *changes = revisions
        schedule = RulesSchedule.always(first.rules, first.revision)
        for revision in changes:
            schedule = schedule.change(revision.start, revision.revision, revision.rules)
        return schedule


class CancellationMark(NamedTuple):
    """A cancellation of the record at `position` in the bucket `key`, or the revocation of its cancellation.

    `changed_position` is that of the stored event.
    """

    key: BucketKey
    position: int
    changed_position: int
    is_revocation: bool = False

    def apply(self, record: UsageRecord) -> UsageRecord | None:
        """Return the record after this; None if it is cancelled already, or if there is nothing to revoke."""
        if not self.is_revocation:
            if record.cancelled_position is not None:
                return None
            return _with_cancellation(record, self.changed_position, record.revoked)
        if record.cancelled_position is None:
            return None
        span = RevokedCancellation(record.cancelled_position, self.changed_position)
        return _with_cancellation(record, None, (*record.revoked, span))


class Bucket(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The totals of one bucket, for one customer and one combination of dimension values.

    `changes` is the span of all records of the bucket and their cancellations.
    """

    key: BucketKey
    totals: Totals
    changes: ChangeSpan

    @classmethod
    def from_parts(cls, key: BucketKey, parts: Sequence["Bucket | UsageBlock"]) -> "Bucket":
        """Return the bucket that consists of these parts: at least one, without a common record."""
        totals, changes = [part.totals for part in parts], [part.changes for part in parts]
        return cls(key, Totals.merge_all(totals), ChangeSpan.merge_all(changes))

    def merge(self, part: "Bucket | UsageBlock") -> "Bucket":
        """Return the bucket with the records of a part, which are others."""
        return Bucket(self.key, self.totals.merge(part.totals), self.changes.merge(part.changes))

    def supersede(self, later: "Bucket") -> "Bucket":
        """Return the bucket of one window after the records of `later` were recorded: one of those counts, if any."""
        totals = later.totals if later.totals.count else self.totals
        return Bucket(self.key, totals, self.changes.merge(later.changes))
