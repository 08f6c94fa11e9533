"""Bulk cancellations: cancel many meter events by one decision, preview it, and revoke it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain, islice
from typing import Unpack, cast

from eventsourcing.persistence import IntegrityError

from ...domain.acceptance_policy import AcceptancePolicy
from ...domain.aggregate import Aggregate
from ...domain.approval_policy import ChangeKind
from ...domain.bulk_cancellation import STREAM_PREFIX, BulkCancellation, BulkCancellationStatus
from ...domain.calendar import get_timezone
from ...domain.errors import CancellationNotFound
from ...domain.meter_event import MeterEvent
from ...domain.proposed_changes import CancellationProposal
from ...domain.timestamps import MIN_DATETIME, ensure_utc
from ...projections.models import AsOf
from ..approvals.gate import ApprovalGate
from ..cancellation_views import BulkCancellationView, CancellationPreview
from ..interruption import check_interruption
from ..ledger.ledger import Ledger
from ..ledger.position_ranges import PositionRanges
from ..ledger.retry import retry_on_connection_loss
from ..ledger.stream_pages import events_by_prefix
from ..queries.cancellation_selection import (
    EVENTS_PER_BATCH,
    MAX_SELECTED_EVENTS,
    CancellationQueries,
    PendingEvent,
)
from ..queries.dimension_query import Where
from ..queries.meter_query import MeterQueryFactory
from ..storage.ports import ConcurrentStreamUpdate
from ..uuid7 import uuid7
from ..validation import optional_note, require_event_name, require_int, require_text
from .cancellation_arguments import SelectionArguments, check_selected, id_of, parse_selection

OnProgress = Callable[[BulkCancellationView], None]
"""Called after each transaction of a bulk cancellation."""


class BulkCancellationCommands:
    """The bulk cancellations of a ledger: `metering.cancellations`."""

    def __init__(
        self,
        ledger: Ledger,
        meter_queries: MeterQueryFactory,
        policy: AcceptancePolicy,
        gate: ApprovalGate,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._queries = CancellationQueries(ledger, meter_queries)
        self._as_of = meter_queries.as_of
        self._policy = policy
        self._clock = clock

    @retry_on_connection_loss
    def preview(
        self,
        event_name: str,
        *,
        customer: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        recorded_from: datetime | None = None,
        recorded_until: datetime | None = None,
        import_run: str | None = None,
        identifier_prefix: str | None = None,
        where: Where | None = None,
        timezone: str = "UTC",
    ) -> CancellationPreview:
        """Return what `cancel_many` with the same selection would cancel, by customer and month of `timezone`.

        The quantities are exact: they are computed with and without the selected events, also if these supersede
        others.
        """
        event_name, zone = require_event_name(event_name), get_timezone(timezone)
        selection = parse_selection(
            customer, start, end, recorded_from, recorded_until, import_run, identifier_prefix, where
        )
        return self._queries.preview(event_name, selection, zone, self._cancellable_from(self._now()))

    def cancel_many(
        self,
        event_name: str,
        *,
        customer: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        recorded_from: datetime | None = None,
        recorded_until: datetime | None = None,
        import_run: str | None = None,
        identifier_prefix: str | None = None,
        where: Where | None = None,
        reason: str,
        by: str | None = None,
        digest: str | None = None,
        max_events: int = MAX_SELECTED_EVENTS,
        identifier: str | None = None,
        progress: OnProgress | None = None,
    ) -> BulkCancellationView:
        """Cancel the meter events of a meter that match the selection, as one decision with a reason.

        An event is selected if it matches everything that is given: the customer, the time of usage in [start, end),
        the time of recording in [recorded_from, recorded_until), the import that recorded it, the beginning of its
        identifier and dimension values. Events that are cancelled already, or were recorded before the cancel window,
        are left out; `preview` counts them.

        The events that are recorded when this is called are cancelled in transactions of 1,000 events. If the process
        ends in between, `resume` cancels the others. `revoke` undoes the decision. With an identifier, a retry is safe:
        if a decision was made with it, that one is finished and returned.

        With the `digest` of a preview, PreviewChanged is raised unless the same events would be cancelled. Raises
        InvalidCancellation if there are none, or more than `max_events` (at most 1,000,000), and ApprovalRequired.
        """
        reason, by = require_text(reason, "reason", 500), optional_note(by, "by")
        cancellation_id = str(uuid7()) if identifier is None else id_of(identifier)
        if identifier is not None:
            with suppress(CancellationNotFound):
                return self.resume(cancellation_id, progress=progress)
        self._gate.permit(ChangeKind.CANCELLATION)  # before the events are selected
        planned, pending = self._select(
            event_name, digest, max_events, customer=customer, start=start, end=end, recorded_from=recorded_from,
            recorded_until=recorded_until, import_run=import_run, identifier_prefix=identifier_prefix, where=where,
        )  # fmt: skip
        try:
            bulk = self._decide(cancellation_id, planned, reason, by, self._now())
        except IntegrityError:
            if identifier is None:
                raise
            return self.resume(cancellation_id, progress=progress)  # it was made with this identifier meanwhile
        return self._run(bulk, pending, progress)

    def plan(
        self,
        event_name: str,
        *,
        digest: str | None = None,
        max_events: int = MAX_SELECTED_EVENTS,
        **selection: Unpack[SelectionArguments],
    ) -> CancellationProposal:
        """Return what `cancel_many` would decide; nothing is stored. Raises as it does."""
        return self._select(event_name, digest, max_events, **selection)[0]

    def preview_plan(self, planned: CancellationProposal, timezone: str) -> CancellationPreview:
        """Return what carrying out a plan would cancel and change now."""
        return self._queries.preview(
            planned.event_name, planned.selection, get_timezone(timezone), planned.cancellable_from, planned.position
        )

    def carry_out(
        self, cancellation_id: str, planned: CancellationProposal, *, reason: str, planned_at: datetime
    ) -> BulkCancellationView:
        """Cancel the meter events that were planned at a time."""
        bulk = self._decide(cancellation_id, planned, reason, None, planned_at)
        return self._run(bulk, None, None)

    def has_pending(self, planned: CancellationProposal) -> bool:
        """Return whether a meter event of a plan isn't cancelled yet."""
        selected = self._queries.select(
            planned.event_name, planned.selection, cancellable_from=planned.cancellable_from, position=planned.position
        )
        return bool(selected.pending)

    def resume(self, cancellation_id: str, *, progress: OnProgress | None = None) -> BulkCancellationView:
        """Finish a bulk cancellation, or its revocation, that was interrupted. Raises CancellationNotFound."""
        return self._run(self._find(cancellation_id), None, progress)

    def revoke(
        self, cancellation_id: str, *, reason: str, by: str | None = None, progress: OnProgress | None = None
    ) -> BulkCancellationView:
        """Revoke a bulk cancellation: all of its meter events count again, unless they were changed singly since.

        Events that it hasn't cancelled yet never are. Revoking it again finishes the revocation if that was
        interrupted. Raises CancellationNotFound, ApprovalRequired, and InvalidCancellation after the cancel window of
        the decision.
        """
        reason, by = require_text(reason, "reason", 500), optional_note(by, "by")
        while True:
            bulk = self._find(cancellation_id)
            bulk.revoke(reason=reason, by=by, at=self._now(), policy=self._policy)
            events = bulk.collect_events()
            try:
                if events:
                    permission = self._gate.permit(ChangeKind.CANCELLATION)
                    self._ledger.append([*permission.first_events(), *events], permission.versions)
            except (IntegrityError, ConcurrentStreamUpdate):
                continue  # another process cancels its events or has revoked it, or changed the approval policy
            return self._run(bulk, None, progress)

    @retry_on_connection_loss
    def get(self, cancellation_id: str, *, as_of: datetime | int | None = None) -> BulkCancellationView:
        """Return a bulk cancellation and its progress. Raises CancellationNotFound, also if it was made later."""
        return BulkCancellationView.from_aggregate(self._find(cancellation_id, self._as_of(as_of)))

    @retry_on_connection_loss
    def list(
        self, event_name: str | None = None, *, as_of: datetime | int | None = None
    ) -> "list[BulkCancellationView]":
        """Return the bulk cancellations of a meter, or of all meters, oldest first."""
        cancellations = self.iterate(event_name, as_of=as_of)
        return sorted(cancellations, key=lambda view: (view.cancelled_at, view.cancellation_id))

    def iterate(
        self, event_name: str | None = None, *, as_of: datetime | int | None = None
    ) -> Iterator[BulkCancellationView]:
        """Yield the bulk cancellations that `list` returns, in any order, a page in memory at a time."""
        event_name = None if event_name is None else require_event_name(event_name)
        stored = events_by_prefix(self._ledger.ledger_recorder, STREAM_PREFIX)
        views = (
            BulkCancellationView.from_aggregate(cast(BulkCancellation, aggregate))
            for aggregate in self._ledger.aggregates(stored, self._as_of(as_of))
        )
        return (view for view in views if event_name in (None, view.event_name))

    # --- in transactions --------------------------------------------------------------------------

    def _select(
        self, event_name: str, digest: str | None, max_events: int, **selection: Unpack[SelectionArguments]
    ) -> tuple[CancellationProposal, Sequence[PendingEvent]]:
        """Return what is to be decided, and the events that are to be cancelled now."""
        event_name = require_event_name(event_name)
        max_events = require_int(max_events, "max_events", 1, MAX_SELECTED_EVENTS)
        parsed, cancellable_from = parse_selection(**selection), self._cancellable_from(self._now())
        selected = self._queries.select(event_name, parsed, cancellable_from=cancellable_from)
        check_selected(event_name, selected, digest, max_events)
        planned = CancellationProposal(
            event_name=event_name, selection=parsed, position=selected.position, cancellable_from=cancellable_from,
            count=len(selected.events), digest=selected.digest,
        )  # fmt: skip
        return planned, selected.pending

    def _decide(
        self, cancellation_id: str, planned: CancellationProposal, reason: str, by: str | None, planned_at: datetime
    ) -> BulkCancellation:
        while True:
            permission = self._gate.permit(ChangeKind.CANCELLATION)
            bulk = BulkCancellation.decide(
                cancellation_id, planned.event_name, planned.selection, position=planned.position,
                cancellable_from=planned.cancellable_from, count=planned.count, digest=planned.digest, reason=reason,
                by=by, at=self._now(), accepted_under=self._policy.beyond_default_cancel_window(
                    planned.cancellable_from or MIN_DATETIME, planned_at
                ),
            )  # fmt: skip
            try:
                self._ledger.append([*permission.first_events(), *bulk.collect_events()], permission.versions)
            except ConcurrentStreamUpdate:
                continue  # another process changed the approval policy
            return bulk

    def _run(
        self, bulk: BulkCancellation, pending: Sequence[PendingEvent] | None, progress: OnProgress | None
    ) -> BulkCancellationView:
        """Cancel the pending events of a decision, or revoke their cancellations, part by part.

        If another process changes one of the events, or works on the same decision, the part is decided again.
        """
        is_contended = False
        while bulk.is_running:
            check_interruption()
            try:
                if bulk.status is BulkCancellationStatus.CANCELLING:
                    pending = self._pending(bulk) if pending is None else pending
                    part, pending = pending[:EVENTS_PER_BATCH], pending[EVENTS_PER_BATCH:]
                    self._append_cancellations(bulk, part, is_last=not pending)
                else:
                    self._append_revocations(bulk, is_contended=is_contended)
            except IntegrityError:
                bulk, pending, is_contended = self._find(bulk.cancellation_id), None, True
                continue
            is_contended = False
            if progress is not None:
                progress(BulkCancellationView.from_aggregate(bulk))
        return BulkCancellationView.from_aggregate(bulk)

    def _pending(self, bulk: BulkCancellation) -> Sequence[PendingEvent]:
        """Return the events of a decision that remain to be cancelled, in the order of their recording."""
        selected = self._queries.select(
            bulk.event_name, bulk.selection, cancellable_from=bulk.cancellable_from, position=bulk.position
        )
        return [event for event in selected.pending if event.position > bulk.last_position]

    def _append_cancellations(self, bulk: BulkCancellation, part: Sequence[PendingEvent], *, is_last: bool) -> None:
        now = self._now()
        stored = self._ledger.meter_events_at([event.position for event in part])
        events: list[Aggregate.Event] = [
            MeterEvent.cancellation_event(
                identifier, event.version, data, recorded_position=event.position, at=now, reason=bulk.reason,
                by=bulk.by, cancellation_id=bulk.cancellation_id,
            )
            for event in part
            for identifier, data in (stored[event.position],)
        ]  # fmt: skip
        last_position = part[-1].position if part else bulk.last_position
        self._append(bulk, events, last_position, is_last=is_last, at=now)

    def _append_revocations(self, bulk: BulkCancellation, *, is_contended: bool) -> None:
        """Revoke the next cancellations of a decision; if `is_contended`, without those that are no longer in effect.

        Otherwise that is left to the database, because looking up each meter event would take far longer.
        """
        now, stream = self._now(), self._ledger.ledger_recorder.select_stream(bulk.id)
        ranges = PositionRanges.before(stream, (BulkCancellation.EventsCancelledPart.__name__,))
        positions = list(islice((at for at in chain.from_iterable(ranges) if at > bulk.last_position),
                                EVENTS_PER_BATCH + 1))  # fmt: skip
        part, is_last = positions[:EVENTS_PER_BATCH], len(positions) <= EVENTS_PER_BATCH
        cancelled = cast(Mapping[int, MeterEvent.EventCancelled], self._ledger.cancellations_at(part))
        events: list[Aggregate.Event] = [
            MeterEvent.revocation_event(
                cancelled[at], at=now, reason=bulk.revocation_reason or bulk.reason, by=bulk.revoked_by
            )
            for at in part
            if not is_contended or self._is_in_effect(cancelled[at])
        ]
        self._append(bulk, events, part[-1] if part else bulk.last_position, is_last=is_last, at=now)

    def _append(
        self, bulk: BulkCancellation, events: Sequence[Aggregate.Event], last_position: int, *, is_last: bool,
        at: datetime,
    ) -> None:  # fmt: skip
        bulk.advance(len(events), last_position, is_last=is_last, at=at)
        self._ledger.append([*events, *bulk.collect_events()])

    def _is_in_effect(self, cancelled: MeterEvent.EventCancelled) -> bool:
        """Return whether a cancellation is the newest event of its meter event."""
        positions = self._ledger.ledger_recorder.select_stream_positions(cancelled.originator_id)
        return len(positions) == cancelled.originator_version

    def _find(self, cancellation_id: object, as_of: AsOf | None = None) -> BulkCancellation:
        wanted = require_text(cancellation_id, "cancellation_id", 100)
        stored = self._ledger.ledger_recorder.select_stream(BulkCancellation.stream_id(wanted))
        for aggregate in self._ledger.aggregates(stored, as_of):
            return cast(BulkCancellation, aggregate)
        raise CancellationNotFound(f"There is no bulk cancellation {wanted!r}.", field="cancellation_id", value=wanted)

    def _cancellable_from(self, now: datetime) -> datetime | None:
        """Return the earliest time of recording of a meter event that can be cancelled; None without a limit."""
        window = self._policy.cancel_window
        return None if window is None or now - MIN_DATETIME < window else now - window

    def _now(self) -> datetime:
        return ensure_utc(self._clock(), "clock")
