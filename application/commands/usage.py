"""Usage: record meter events, each identifier exactly once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import cast

import msgspec
from eventsourcing.persistence import IntegrityError

from ...domain.aggregate import Aggregate
from ...domain.authorship import AcceptedUnder, Author, current_author
from ...domain.combinations import DimensionCombinations
from ...domain.errors import (
    Corrupted,
    DatabasePermissionDenied,
    DuplicateMeterEvent,
    InvalidParameter,
    TallybookError,
    Unavailable,
)
from ...domain.meter import Meter
from ...domain.meter_event import MeterEventData
from ...domain.meter_event_input import MeterEventInput, parse_meter_event
from ...domain.plain_types import plain_text
from ...domain.policy import AcceptancePolicy
from ...domain.text import abbreviated_repr, is_storable
from ...domain.timestamps import ensure_utc
from ..ledger.known_events import KnownEvent, find_known_events
from ..ledger.ledger import Ledger, StoredMeterEvent
from ..results import MeterEventsRejected, Outcome, Receipt, Receipts
from ..storage.key_value import KeyValueEntry
from ..storage.ports import ConcurrentStreamUpdate
from ..uuid7 import uuid7
from .group_commit import GroupCommit
from .meter_acceptors import MeterAcceptors, MeterCache

AttachToReceipts = Callable[[Sequence[Receipt], datetime], Sequence[KeyValueEntry]]
"""Returns key-value entries to store with a batch, given its receipts and the time it was decided at."""
LastEvents = Callable[[Sequence[MeterEventData], datetime], Sequence[Aggregate.Event]]
"""Returns events to store after new meter events, given these and the time they were decided at."""
_ANY_AGE = {"max_age": None, "max_ahead": None}


class _Decision(msgspec.Struct):
    """The decision on one meter event: the data to store, or the error it is rejected with."""

    identifier: str | None
    event_input: MeterEventInput | None
    data: MeterEventData | None
    error: TallybookError | None = None


class UsageCommands:
    """Records meter events."""

    def __init__(self, ledger: Ledger, policy: AcceptancePolicy, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.policy = policy
        self.clock = clock
        self._combinations = DimensionCombinations()
        self._meters = MeterCache(ledger)
        self._group_commit = GroupCommit(self.record_many)

    def record(self, meter_event: object) -> Receipt:
        """Record one meter event, with those of other threads. Raises the error it is rejected with."""
        receipt = self._group_commit.record(meter_event)
        if receipt.error is not None:
            raise receipt.error
        return receipt

    def record_many(
        self,
        meter_events: Iterable[object],
        *,
        strict: bool = False,
        attach: AttachToReceipts | None = None,
        last_events: LastEvents | None = None,
        submitted_at: Sequence[datetime] | None = None,
        authors: Iterable[Author | None] | None = None,
    ) -> Receipts:
        """Record meter events in one transaction and return a receipt for each. See `Metering.record_many`.

        `last_events` returns events to store after new meter events; it may be called again if they are decided again.
        `submitted_at` are the times at which the meter events were submitted, if that was earlier: their age was
        checked then, and one without a timestamp occurred then. `authors` are those of the meter events, if they are
        several; otherwise it is that of the current thread or task.
        """
        raw_events = list(_require_iterable(meter_events))
        policy = self.policy if submitted_at is None else self.policy.model_copy(update=_ANY_AGE)
        submission_times = repeat(None) if submitted_at is None else submitted_at
        event_authors = repeat(current_author()) if authors is None else authors
        while True:
            now = self._now()
            acceptors = MeterAcceptors(self._meters, policy, self._combinations, now)
            try:
                decisions = [
                    _decide(raw_event, acceptors, at, author)
                    for raw_event, at, author in zip(raw_events, submission_times, event_authors, strict=False)
                ]
                receipts = self._store(decisions, acceptors.meters, now, attach, last_events)
            except ConcurrentStreamUpdate:
                self._meters.clear()
                continue  # a meter was changed meanwhile: decide again under its new state
            if strict:
                _require_recorded(receipts)
            return receipts

    def _now(self) -> datetime:
        return ensure_utc(self.clock(), "clock")

    def _store(
        self,
        decisions: Sequence[_Decision],
        meters: Iterable[Meter],
        now: datetime,
        attach: AttachToReceipts | None,
        last_events: LastEvents | None,
    ) -> Receipts:
        """Store the accepted events, and the entries attached to them, and return the receipts.

        The insert is optimistic: all events are inserted at once. If identifiers are taken, by earlier events or by
        another process meanwhile, nothing is stored; the stored events are looked up and the remaining ones inserted.
        """
        accepted = _first_by_identifier(decisions)
        rejected = {
            decision.identifier for decision in decisions if decision.data is None and decision.identifier is not None
        }
        stored = find_known_events(self.ledger, rejected) if rejected else {}
        receipts: Receipts | None = None

        def attach_to_positions(positions: Mapping[str, int]) -> Sequence[KeyValueEntry]:
            nonlocal receipts
            assert attach is not None
            receipts = _receipts(decisions, stored, positions)
            return attach(receipts, now)

        positions: Mapping[str, int] = {}
        while accepted or attach is not None:
            try:
                last = last_events(list(accepted.values()), now) if last_events and accepted else ()
                positions = self.ledger.append_meter_events(
                    accepted, meters, None if attach is None else attach_to_positions, last
                )
                break
            except IntegrityError:
                taken = find_known_events(self.ledger, accepted)
                if not taken:
                    raise
                stored.update(taken)
                accepted = {identifier: data for identifier, data in accepted.items() if identifier not in taken}
        return _receipts(decisions, stored, positions) if receipts is None else receipts


def _decide(
    raw_event: object, acceptors: MeterAcceptors, submitted_at: datetime | None, author: Author | None
) -> _Decision:
    try:
        event_input = parse_meter_event(raw_event)
    except TallybookError as error:
        return _Decision(_best_effort_identifier(raw_event), None, None, error)
    timed_input = event_input
    if submitted_at is not None and event_input.timestamp is None:
        timed_input = msgspec.structs.replace(event_input, timestamp=submitted_at)
    try:
        data = acceptors[event_input.event_name](timed_input)
    except (Corrupted, Unavailable, DatabasePermissionDenied):
        raise  # nothing is wrong with the event: a caller who reads that it was rejected would not send it again
    except TallybookError as error:
        acceptors.require_current(event_input.event_name)
        return _Decision(event_input.identifier, event_input, None, error)
    limits = None if acceptors.has_default_ages else acceptors.limits_beyond_defaults(data, submitted_at)
    if author is not None or limits is not None:
        data = _with_author(data, author, limits)
    return _Decision(event_input.identifier or str(uuid7()), event_input, data)


def _with_author(data: MeterEventData, author: Author | None, limits: AcceptedUnder | None) -> MeterEventData:
    if author is None:
        return msgspec.structs.replace(data, accepted_under=limits)
    via = None if author.is_library else author.via
    return MeterEventData(
        data.recorded_at, data.event_name, data.payload, data.occurred_at, author.by, via, author.on_behalf_of, limits
    )


def _first_by_identifier(decisions: Iterable[_Decision]) -> dict[str, MeterEventData]:
    """Return the first accepted event of each identifier."""
    accepted: dict[str, MeterEventData] = {}
    for decision in decisions:
        if decision.data is not None and decision.identifier is not None:
            accepted.setdefault(decision.identifier, decision.data)
    return accepted


def _receipts(
    decisions: Sequence[_Decision], stored: Mapping[str, KnownEvent], positions: Mapping[str, int]
) -> Receipts:
    """Build the receipts of a batch from the events stored before and the `positions` of the new ones."""
    if len(positions) == len(decisions):  # each event is new, under an identifier of its own
        return Receipts(map(Receipt, positions, positions.values(), repeat(Outcome.ACCEPTED)))
    known = dict(stored)
    receipts = Receipts()
    for decision in decisions:
        identifier, data = decision.identifier, decision.data
        if identifier is not None and data is not None and identifier in positions and identifier not in known:
            receipts.append(Receipt(identifier, positions[identifier], Outcome.ACCEPTED))
            known[identifier] = StoredMeterEvent(data, positions[identifier])  # a duplicate may follow in the batch
        else:
            receipts.append(_rejected_or_known(decision, known))
    return receipts


def _rejected_or_known(decision: _Decision, known: Mapping[str, KnownEvent]) -> Receipt:
    """Return the receipt of an event that is not new.

    A resubmission of a stored event is a duplicate even if the current rules would reject it. If the stored event can't
    be read, it is rejected with the reason: it is a duplicate or a conflict, so nothing is lost.
    """
    identifier, event_input = decision.identifier, decision.event_input
    if identifier is None or event_input is None or identifier not in known:
        return Receipt(identifier, None, Outcome.REJECTED, decision.error)
    stored = known[identifier]
    if not isinstance(stored, StoredMeterEvent):
        return Receipt(identifier, None, Outcome.REJECTED, stored)
    data, position = stored
    if data.matches(event_input):
        return Receipt(identifier, position, Outcome.DUPLICATE)
    error = DuplicateMeterEvent(
        f"The identifier {identifier!r} is taken by an event with other content, recorded at "
        f"{data.recorded_at:%Y-%m-%dT%H:%M:%SZ}; an identifier can be used once.",
        field="identifier",
        value=identifier,
    )
    return Receipt(identifier, position, Outcome.CONFLICT, error)


def _require_recorded(receipts: Receipts) -> None:
    """Raise MeterEventsRejected if any of the meter events is not recorded with its content."""
    first = next(((index, receipt) for index, receipt in enumerate(receipts) if receipt.error is not None), None)
    if first is None:
        return
    index, receipt = first
    raise MeterEventsRejected(
        f"{receipts.rejected + receipts.conflicts} of {len(receipts)} meter events were not recorded; the first is "
        f"number {index} (identifier {receipt.identifier!r}): {receipt.error}",
        receipts,
    )


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
