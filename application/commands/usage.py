"""Usage: record meter events, each identifier exactly once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, cast

import msgspec
from eventsourcing.persistence import IntegrityError

from ...domain.acceptance_policy import AcceptancePolicy
from ...domain.aggregate import Aggregate
from ...domain.authorship import AcceptedUnder, Author, current_author
from ...domain.combinations import DimensionCombinations
from ...domain.errors import (
    Corrupted,
    DatabasePermissionDenied,
    InvalidParameter,
    TallybookError,
    Unavailable,
)
from ...domain.meter import Meter
from ...domain.meter_event import MeterEventData
from ...domain.meter_event_input import parse_meter_event
from ...domain.plain_types import plain_text
from ...domain.text import abbreviated_repr, is_storable
from ...domain.timestamps import ensure_utc
from ..ledger.known_events import KnownEvent, find_known_events, read_pruned_events
from ..ledger.ledger import Ledger
from ..ledger.mapper import NewMeterEvents
from ..results import Receipt, Receipts
from ..storage.key_value import KeyValueEntry
from ..storage.ports import ConcurrentStreamUpdate
from ..uuid7 import uuid7
from .group_commit import GroupCommit
from .meter_acceptors import MeterAcceptors, MeterCache, QueryNeeded
from .receipts import Decision, RecordedBatch, build_receipts, compare_pruned, require_recorded

AttachToReceipts = Callable[[Sequence[Receipt], datetime], Sequence[KeyValueEntry]]
"""Returns key-value entries to store with a batch, given its receipts and the time it was decided at."""
LastEvents = Callable[[Sequence[MeterEventData], datetime], Sequence[Aggregate.Event]]
"""Returns events to store after new meter events, given these and the time they were decided at."""
_ANY_AGE = {"max_age": None, "max_ahead": None}


class _DecidedBatch(NamedTuple):
    """The decisions on a batch, the new meter events, and the meters and the time that they were decided with."""

    decisions: Sequence[Decision]
    accepted: NewMeterEvents
    meters: Sequence[Meter]
    at: datetime


class PreparedMeterEvents(list[object]):
    """Meter events that were decided before they are recorded."""

    def __init__(self, meter_events: Iterable[object], decided: _DecidedBatch) -> None:
        super().__init__(meter_events)
        self.decided = decided


class UsageCommands:
    """Records meter events."""

    def __init__(self, ledger: Ledger, policy: AcceptancePolicy, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.policy = policy
        self.clock = clock
        self._combinations = DimensionCombinations()
        self._meters = MeterCache(ledger)
        self._group_commit = GroupCommit(self.record_new)

    def record(self, meter_event: object) -> Receipt:
        """Record one meter event, with those of other threads. Raises the error it is rejected with."""
        (receipt,) = compare_pruned(self.ledger, Receipts([self.record_one_new(meter_event)]))
        if receipt.error is not None:
            raise receipt.error
        return receipt

    def record_one_new(self, meter_event: object) -> Receipt:
        """Record one meter event, with those of other threads, as `record_new` does."""
        return self._group_commit.record(meter_event)

    def record_many(
        self,
        meter_events: Iterable[object],
        *,
        strict: bool = False,
        attach: AttachToReceipts | None = None,
        last_events: LastEvents | None = None,
        submitted_at: Sequence[datetime] | None = None,
        authors: Sequence[Author | None] | None = None,
    ) -> Receipts:
        """Record meter events in one transaction and return a receipt for each. See `Metering.record_many`."""
        receipts = self.record_batch(
            meter_events, attach=attach, last_events=last_events, submitted_at=submitted_at, authors=authors
        ).receipts
        if strict:
            require_recorded(receipts)
        return receipts

    def record_batch(
        self,
        meter_events: Iterable[object],
        *,
        attach: AttachToReceipts | None = None,
        last_events: LastEvents | None = None,
        submitted_at: Sequence[datetime] | None = None,
        authors: Sequence[Author | None] | None = None,
    ) -> RecordedBatch:
        """Record meter events in one transaction. The receipts are made when they are needed.

        `last_events` returns events to store after new meter events; it may be called again if they are decided again.
        `submitted_at` are the times at which the meter events were submitted, if that was earlier: their age was
        checked then, and one without a timestamp occurred then. `authors` are those of the meter events, if they are
        several; otherwise it is that of the current thread or task.

        Events that are sent again and pruned are compared with their archive after the transaction; before it, if
        `attach` needs their receipts.
        """
        recorded = self._record(
            meter_events, attach, last_events, submitted_at, authors, reads_archive=attach is not None
        )
        return RecordedBatch(recorded.accepted, lambda: compare_pruned(self.ledger, recorded.receipts))

    def record_new(
        self,
        meter_events: Iterable[object],
        *,
        attach: AttachToReceipts | None = None,
        authors: Sequence[Author | None] | None = None,
    ) -> Receipts:
        """Record meter events as `record_many` does, without reading an archive, which may take long.

        The receipts of events with the identifiers of pruned ones are PendingReceipts, also those for `attach`.
        """
        return self._record(meter_events, attach, None, None, authors, reads_archive=False).receipts

    def compare_pruned(self, receipts: Receipts) -> Receipts:
        """Return the receipts of `record_new`, of which none is pending: an archive was read for those that are."""
        return compare_pruned(self.ledger, receipts)

    def prepare(self, meter_events: Sequence[object], authors: Sequence[Author | None]) -> Sequence[object]:
        """Decide meter events before `record_many` is called with the result, which saves time then.

        Nothing is read from the ledger: if that is necessary, the meter events are returned as they are.
        """
        try:
            decided = self._decide(meter_events, [None] * len(meter_events), authors, self.policy, is_offline=True)
        except QueryNeeded:
            return meter_events
        decided.accepted.encode()
        return PreparedMeterEvents(meter_events, decided)

    def _record(
        self,
        meter_events: Iterable[object],
        attach: AttachToReceipts | None,
        last_events: LastEvents | None,
        submitted_at: Sequence[datetime] | None,
        authors: Sequence[Author | None] | None,
        *,
        reads_archive: bool,
    ) -> RecordedBatch:
        decided = meter_events.decided if isinstance(meter_events, PreparedMeterEvents) else None
        raw_events = list(_require_iterable(meter_events))
        event_authors = [current_author()] * len(raw_events) if authors is None else list(authors)
        if len(event_authors) != len(raw_events):
            raise InvalidParameter(
                f"'authors' must have the author of each of the {len(raw_events):,} meter events, and has "
                f"{len(event_authors):,}.",
                field="authors",
            )
        policy = self.policy if submitted_at is None else self.policy.model_copy(update=_ANY_AGE)
        submission_times = [None] * len(raw_events) if submitted_at is None else submitted_at
        while True:
            try:
                decided = decided or self._decide(raw_events, submission_times, event_authors, policy)
                return self._store(decided, attach, last_events, reads_archive=reads_archive)
            except ConcurrentStreamUpdate:
                self._meters.clear()
                decided = None  # a meter was changed meanwhile: decide again under its new state

    def _decide(
        self,
        raw_events: Sequence[object],
        submission_times: Sequence[datetime | None],
        authors: Sequence[Author | None],
        policy: AcceptancePolicy,
        *,
        is_offline: bool = False,
    ) -> _DecidedBatch:
        now = self._now()
        acceptors = MeterAcceptors(self._meters, policy, self._combinations, now, is_offline=is_offline)
        decisions = [
            _decide(raw_event, acceptors, at, author)
            for raw_event, at, author in zip(raw_events, submission_times, authors, strict=True)
        ]
        return _DecidedBatch(decisions, _first_by_identifier(decisions), acceptors.meters, now)

    def _now(self) -> datetime:
        return ensure_utc(self.clock(), "clock")

    def _store(
        self,
        decided: _DecidedBatch,
        attach: AttachToReceipts | None,
        last_events: LastEvents | None,
        *,
        reads_archive: bool,
    ) -> RecordedBatch:
        """Store the accepted events, and the entries attached to them.

        The insert is optimistic: all events are inserted at once. If identifiers are taken, by earlier events or by
        another process meanwhile, nothing is stored; the stored events are looked up and the remaining ones inserted.
        """
        decisions, accepted, meters, now = decided
        rejected = {
            decision.identifier for decision in decisions if decision.data is None and decision.identifier is not None
        }
        stored = self._find_known(rejected, reads_archive=reads_archive) if rejected else {}
        recorded: RecordedBatch | None = None

        def as_recorded(positions: Mapping[str, int]) -> RecordedBatch:
            return RecordedBatch(len(positions), partial(build_receipts, decisions, stored, positions))

        def attach_to_positions(positions: Mapping[str, int]) -> Sequence[KeyValueEntry]:
            nonlocal recorded
            assert attach is not None
            recorded = as_recorded(positions)
            return attach(recorded.receipts, now)

        positions: Mapping[str, int] = {}
        while accepted or attach is not None:
            try:
                last = last_events(list(accepted.values()), now) if last_events and accepted else ()
                positions = self.ledger.append_meter_events(
                    accepted, meters, None if attach is None else attach_to_positions, last
                )
                break
            except IntegrityError:
                taken = self._find_known(accepted, reads_archive=reads_archive)
                if not taken:
                    raise
                stored.update(taken)
                accepted = NewMeterEvents(
                    (identifier, data) for identifier, data in accepted.items() if identifier not in taken
                )
        return recorded or as_recorded(positions)

    def _find_known(self, identifiers: Iterable[str], *, reads_archive: bool) -> dict[str, KnownEvent]:
        known = find_known_events(self.ledger, identifiers)
        return read_pruned_events(self.ledger, known) if reads_archive else known


def _decide(
    raw_event: object, acceptors: MeterAcceptors, submitted_at: datetime | None, author: Author | None
) -> Decision:
    try:
        event_input = parse_meter_event(raw_event)
    except TallybookError as error:
        return Decision(_best_effort_identifier(raw_event), None, None, error)
    timed_input = event_input
    if submitted_at is not None and event_input.timestamp is None:
        timed_input = msgspec.structs.replace(event_input, timestamp=submitted_at)
    try:
        data = acceptors[event_input.event_name](timed_input)
    except (Corrupted, Unavailable, DatabasePermissionDenied):
        raise  # nothing is wrong with the event: a caller who reads that it was rejected would not send it again
    except TallybookError as error:
        acceptors.require_current(event_input.event_name)
        return Decision(event_input.identifier, event_input, None, error)
    limits = None if acceptors.has_default_ages else acceptors.limits_beyond_defaults(data, submitted_at)
    if author is not None or limits is not None:
        data = _with_author(data, author, limits)
    return Decision(event_input.identifier or str(uuid7()), event_input, data)


def _with_author(data: MeterEventData, author: Author | None, limits: AcceptedUnder | None) -> MeterEventData:
    if author is None:
        return msgspec.structs.replace(data, accepted_under=limits)
    via = None if author.is_library else author.via
    return MeterEventData(
        data.recorded_at, data.event_name, data.payload, data.occurred_at, author.by, via, author.on_behalf_of, limits
    )


def _first_by_identifier(decisions: Iterable[Decision]) -> NewMeterEvents:
    """Return the first accepted event of each identifier."""
    accepted = NewMeterEvents()
    for decision in decisions:
        if decision.data is not None and decision.identifier is not None:
            accepted.setdefault(decision.identifier, decision.data)
    return accepted


def _require_iterable(meter_events: object) -> Iterable[object]:
    if not isinstance(meter_events, Iterable):
        raise InvalidParameter(
            f"'meter_events' must be a list of meter events, not {abbreviated_repr(meter_events)}.",
            field="meter_events",
        )
    return cast(Iterable[object], meter_events)


def _best_effort_identifier(raw_event: object) -> str | None:
    """Return the identifier of an event that can't be parsed, so that its receipt can be matched to it."""
    identifier = plain_text(
        cast(Mapping[str, object], raw_event).get("identifier")
        if isinstance(raw_event, Mapping)
        else getattr(raw_event, "identifier", None)
    )
    return identifier if identifier is not None and is_storable(identifier) else None
