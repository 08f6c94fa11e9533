"""Queries of single meter events: list and fetch them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice

from ...domain.errors import InvalidIdentifier, MeterEventNotFound
from ...domain.meter_event import MeterEvent, MeterEventData
from ...domain.rules import PayloadParser
from ...domain.rules_schedule import ALL_TIME
from ...domain.timestamps import to_microseconds
from ...projections.usage_view import UsageVerdict, UsageView, ViewPart
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..result_lists import MeterEventList
from ..results import (
    MeterEventView,
    RevokedCancellationView,
    Verdict,
)
from ..validation import (
    optional_customer,
    optional_time_range,
    require_event_name,
    require_int,
    require_text,
)
from .dimension_query import Where, parse_dimensions
from .meter_query import MeterQuery, MeterQueryFactory

MAX_EVENTS_PER_PAGE = 10_000

EventViewFields = tuple[
    str, str, str, Decimal | None, dict[str, str | None], dict[str, str], datetime, datetime, int, Verdict, int,
    str | None, datetime | None, str | None, str | None, str | None, tuple[RevokedCancellationView, ...],
    str | None,
]  # fmt: skip
"""The fields of a MeterEventView, in their order."""


class EventQueries:
    """Lists and fetches meter events."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries

    @retry_on_connection_loss
    def events(
        self,
        event_name: str,
        customer: str | None,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | int | None,
        limit: int,
        starting_after: str | None,
        where: Where | None,
    ) -> MeterEventList:
        """Return up to `limit` meter events in [start, end) after `starting_after`, by (occurred_at, position)."""
        limit = require_int(limit, "limit", 1, MAX_EVENTS_PER_PAGE)
        first, last = optional_time_range(start, end)
        event_name, customer = require_event_name(event_name), optional_customer(customer)
        bounds = (ALL_TIME[0] if first is None else first, ALL_TIME[1] if last is None else last)
        with self._meter_queries.query(event_name, as_of, bounds, parse_dimensions(where, ())) as query:
            customer_id = query.customer_id(customer)
            keys = query.view.dimension_keys
            time_span = query.view.time_span(customer_id)
            if time_span is None:
                return MeterEventList((), keys)
            first, last = max(query.view.bounds[0], time_span[0]), min(query.view.bounds[1], time_span[1])
            cursor = None if starting_after is None else self._cursor_position(starting_after, query)
            first = first if cursor is None else max(first, cursor[0])
            verdicts = query.view.verdicts(customer_id, first, last, query.as_of)
            if cursor is not None:
                verdicts = (
                    verdict for verdict in verdicts if (verdict.record.occurred_at, verdict.record.position) > cursor
                )
            return MeterEventList(_event_views(self._ledger, list(islice(verdicts, limit)), query.view), keys)

    @retry_on_connection_loss
    def event(self, identifier: str, event_name: str | None, as_of: datetime | int | None) -> MeterEventView:
        """Return a meter event with its verdict for the meter `event_name`; the one it was recorded for if None.

        Raises MeterEventNotFound, also if that meter doesn't count it or it was not recorded at `as_of`.
        """
        known, identifier = self._meter_queries.as_of(as_of), require_text(identifier, "identifier", 100)
        stored = self._ledger.find_meter_events((identifier,)).get(identifier)
        if stored is None or not (known is None or known.includes(stored.position)):
            raise MeterEventNotFound(
                f"No meter event is recorded under the identifier {identifier!r}, or none was at 'as_of'.",
                field="identifier",
                value=identifier,
            )
        recorded_name = stored.data.event_name
        occurred_at = to_microseconds(stored.data.occurred_at)
        event_name = recorded_name if event_name is None else event_name
        with self._meter_queries.open(event_name, known and known.position) as meter:
            query = meter.exact_query((occurred_at, occurred_at + 1))
            if query.recorded_name != recorded_name:
                raise MeterEventNotFound(
                    f"The event {identifier!r} was recorded under {recorded_name!r}, whose events the meter "
                    f"{query.event_name!r} does not count.",
                    field="identifier",
                    value=identifier,
                )
            customer, *_ = query.rules.parse(stored.data.payload)
            verdicts = query.view.verdicts(query.customer_id(customer), *query.view.bounds, query.as_of)
            own_verdict = [verdict for verdict in verdicts if verdict.record.position == stored.position]
            return _event_views(self._ledger, own_verdict, query.view)[0]

    def _cursor_position(self, identifier: str, query: MeterQuery) -> tuple[int, int]:
        """Return (occurred_at, position) of the event that a page starts after. Raises InvalidIdentifier."""
        identifier = require_text(identifier, "starting_after", 100)
        stored = self._ledger.find_meter_events((identifier,)).get(identifier)
        if stored is None or stored.data.event_name != query.recorded_name:
            raise InvalidIdentifier(
                f"No event of the meter {query.event_name!r} is recorded under {identifier!r}.",
                field="starting_after",
                value=identifier,
            )
        return to_microseconds(stored.data.occurred_at), stored.position


def event_view_fields(ledger: Ledger, verdicts: Sequence[UsageVerdict], view: UsageView) -> Iterator[EventViewFields]:
    """Return the fields of a MeterEventView for each verdict, with the submitted data read from the ledger."""
    positions = {verdict.record.position for verdict in verdicts}
    positions |= {verdict.effective.position for verdict in verdicts if verdict.effective is not None}
    stored_events = ledger.meter_events_at(positions)
    cancellations = ledger.cancellations_at(cancellation_positions(verdicts))
    parsers = {part.start: part.rules.parser() for part in view.parts}
    for verdict in verdicts:
        part = view.part_at(verdict.record.occurred_at)
        yield _event_view_fields(verdict, part, parsers[part.start], stored_events, cancellations)


def cancellation_positions(verdicts: Iterable[UsageVerdict]) -> Iterator[int]:
    """Yield the positions of the cancellations and revocations of meter events."""
    for verdict in verdicts:
        if verdict.record.cancelled_position is not None:
            yield verdict.record.cancelled_position
        for span in verdict.record.revoked:
            yield span.cancelled_position
            yield span.revoked_position


def verdict_for(verdict: UsageVerdict) -> Verdict:
    """Return whether a usage record counts, or why it does not."""
    if verdict.effective is None:
        return Verdict.CANCELLED if verdict.record.cancelled_position is not None else Verdict.FILTERED
    return Verdict.COUNTED if verdict.is_counted else Verdict.SUPERSEDED


def _event_views(ledger: Ledger, verdicts: Sequence[UsageVerdict], view: UsageView) -> list[MeterEventView]:
    return [MeterEventView(*fields) for fields in event_view_fields(ledger, verdicts, view)]


def _revoked_view(
    cancelled: MeterEvent.EventCancelled | MeterEvent.CancelRevoked,
    revoked: MeterEvent.EventCancelled | MeterEvent.CancelRevoked,
) -> RevokedCancellationView:
    return RevokedCancellationView(
        cancelled.timestamp, cancelled.reason, cancelled.by, revoked.timestamp, revoked.reason, revoked.by
    )


def _event_view_fields(
    verdict: UsageVerdict,
    part: ViewPart,
    parse: PayloadParser,
    stored_events: Mapping[int, tuple[str, MeterEventData]],
    cancellations: Mapping[int, MeterEvent.EventCancelled | MeterEvent.CancelRevoked],
) -> EventViewFields:
    record, effective = verdict.record, verdict.effective
    identifier, data = stored_events[record.position]
    superseded_by = None if effective is None or effective is record else stored_events[effective.position][0]
    cancelled_at = reason = by = on_behalf_of = None
    if record.cancelled_position is not None:
        cancellation = cancellations[record.cancelled_position]
        cancelled_at, reason = cancellation.timestamp, cancellation.reason
        by, on_behalf_of = cancellation.by, cancellation.on_behalf_of
    customer, value, dimension_values, unique_value, _ = parse(data.payload)
    dimensions = dict(zip(part.rules.all_dimension_keys, dimension_values, strict=True))
    return (
        data.event_name, identifier, customer, value, dimensions, data.payload, data.occurred_at, data.recorded_at,
        record.position, verdict_for(verdict), part.revision, superseded_by, cancelled_at, reason, by, unique_value,
        tuple(_revoked_view(cancellations[span.cancelled_position], cancellations[span.revoked_position])
              for span in record.revoked),
        on_behalf_of,
    )  # fmt: skip
