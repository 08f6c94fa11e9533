"""Reads the closings of many customers on a meter, a page at a time, without creating their aggregates.

A closing is decoded to what most queries need of it. `closed_periods` returns the whole closed periods of a few.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from operator import attrgetter

import msgspec
from eventsourcing.persistence import Notification
from msgspec.structs import asdict, replace
from pydantic_core import from_json

from ...domain.billing_run import STREAM_PREFIX as RUN_PREFIX
from ...domain.billing_run import BillingRun
from ...domain.closed_bounds import fit_counted_range
from ...domain.closed_period import ClosedPeriod
from ...domain.customer_periods import STREAM_PREFIX as PERIOD_PREFIX
from ...domain.customer_periods import CustomerPeriods
from ...domain.timestamps import to_microseconds
from ...projections.models import AsOf
from ..storage.ports import EventRecorder
from .ledger import Ledger
from .stream_pages import events_by_prefix
from .unreadable_events import UNREADABLE_ERRORS, corrupted_error

Bounds = tuple[int, int]


class Closing(msgspec.Struct, frozen=True, gc=False):
    """A closing as it is stored, without its digest and its groups. `rules` are its rules as JSON."""

    event_name: str
    customer: str
    recorded_at: datetime
    start: datetime
    end: datetime
    quantity: Decimal
    billable: Decimal
    sum: Decimal
    count: int
    rules: msgspec.Raw
    revision: int
    position: int
    counted_from: datetime | None = None
    counted_until: datetime | None = None


class SettledAdjustment(msgspec.Struct, frozen=True, gc=False):
    """A settlement as it is stored."""

    recorded_at: datetime
    start: datetime
    end: datetime
    document: str
    quantity: Decimal
    billable: Decimal
    difference: Decimal
    billable_difference: Decimal
    position: int
    by: str | None = None
    on_behalf_of: str | None = None


class StoredClosing(msgspec.Struct, frozen=True):
    """A closing, the ledger position of its event, and its settlements. Bounds are microseconds since 1970 UTC.

    `counted` is the range of its usage.
    """

    closing: Closing
    bounds: Bounds
    counted: Bounds
    stored_at: int
    settlements: tuple[SettledAdjustment, ...] = ()

    @property
    def invoiced(self) -> Closing | SettledAdjustment:
        """What was invoiced last. See `ClosedPeriod.invoiced`."""
        return self.settlements[-1] if self.settlements else self.closing


class CustomerClosings(msgspec.Struct):
    """The closings of one customer on one meter, and the version of their stream.

    `closings` are not reopened. `reopened` has the last closing of each range that was reopened.
    """

    customer: str
    version: int
    closings: list[StoredClosing]
    reopened: dict[Bounds, StoredClosing] = {}

    def find(self, bounds: Bounds) -> StoredClosing | None:
        """Return the closing of exactly this range."""
        return next((closing for closing in self.closings if closing.bounds == bounds), None)

    def counted_range(self, bounds: Bounds, whole_windows: Bounds) -> Bounds:
        """Return the range of the usage in a period: that of its closing, or the one to count if it isn't closed.

        `whole_windows` is the range of its event time windows. See `CustomerPeriods.counted_range`.
        """
        exact = self.find(bounds)
        if exact is not None:
            return exact.counted
        return fit_counted_range(
            ((closing.bounds, closing.counted) for closing in self.closings), bounds, whole_windows
        )

    def overlapping(self, start: int, end: int) -> list[StoredClosing]:
        """Return the closings that overlap [start, end)."""
        return [closing for closing in self.closings if closing.bounds[0] < end and start < closing.bounds[1]]


class _Reopening(msgspec.Struct, frozen=True):
    recorded_at: datetime
    start: datetime
    end: datetime


def read_closings(
    recorder: EventRecorder, event_name: str, customer: str | None = None, as_of: AsOf | None = None
) -> Iterator[CustomerClosings]:
    """Yield the closings of each customer on a meter, or of one customer, as they were known at `as_of`."""
    if customer is not None:
        stored: Iterable[Notification] = recorder.select_stream(CustomerPeriods.stream_id(event_name, customer))
    else:
        stored = events_by_prefix(recorder, CustomerPeriods.stream_id(event_name, ""))
    return (closings for _, closings in _by_stream(stored, as_of))


def closings_of(recorder: EventRecorder, event_name: str, customers: Sequence[str]) -> Mapping[str, CustomerClosings]:
    """Return the closings of those of these customers that have any, by customer."""
    streams = {CustomerPeriods.stream_id(event_name, customer): customer for customer in customers}
    return {streams[stream]: closings for stream, closings in _by_stream(recorder.select_streams(list(streams)), None)}


def closed_periods(recorder: EventRecorder, closings: Sequence[StoredClosing]) -> Iterator[ClosedPeriod]:
    """Yield the whole closed periods of these closings, in any order."""
    settled = {closing.stored_at: closing.settlements for closing in closings}
    for position, stream, _, _, state in recorder.select_at(list(settled)):
        settlements = [{**asdict(one), "settled_at": one.recorded_at} for one in settled[position]]
        try:
            fields = from_json(state)
            yield ClosedPeriod.model_validate(
                {
                    **fields,
                    "closed_at": fields["recorded_at"],
                    "closed_by": fields.get("by"),
                    "by": None,
                    "on_behalf_of": None,
                    "settlements": settlements,
                }
            )
        except UNREADABLE_ERRORS as error:
            raise corrupted_error(stream, position, error) from error


def closing_positions(recorder: EventRecorder) -> Mapping[str, Sequence[int]]:
    """Return the positions of all closings in order, by the stream of their customer and meter."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for stored in recorder.select_by_prefix(PERIOD_PREFIX):
        if stored.topic == CustomerPeriods.PeriodClosed.__name__:
            positions[str(stored.originator_id)].append(stored.id)
    return positions


def closing_changes(
    recorder: EventRecorder, event_name: str, after_position: int = 0
) -> Iterator[tuple[int, str, Bounds, Closing | None]]:
    """Yield each closing on a meter, and None for each reopening, with its position, its stream and its period.

    They are those after a position, by stream and version.
    """
    prefix = CustomerPeriods.stream_id(event_name, "")
    for stored in events_by_prefix(recorder, prefix, after_position=after_position):
        event = _decode(stored)
        if isinstance(event, Closing | _Reopening):
            bounds = to_microseconds(event.start), to_microseconds(event.end)
            yield stored.id, str(stored.originator_id), bounds, event if isinstance(event, Closing) else None


def run_end_positions(recorder: EventRecorder) -> Mapping[str, int]:
    """Return the positions of the ends of billing runs, by the stream of the run."""
    return {
        str(stored.originator_id): stored.id
        for stored in recorder.select_by_prefix(RUN_PREFIX)
        if stored.topic == BillingRun.BillingRunClosed.__name__
    }


def billing_runs(ledger: Ledger, as_of: AsOf | None = None) -> list[BillingRun]:
    """Return the billing runs that were started at `as_of`, as they were then, in their order."""
    runs = ledger.aggregates(ledger.ledger_recorder.select_by_prefix(RUN_PREFIX), as_of)
    return sorted((run for run in runs if isinstance(run, BillingRun)), key=attrgetter("number"))


def _by_stream(stored_events: Iterable[Notification], as_of: AsOf | None) -> Iterator[tuple[str, CustomerClosings]]:
    """Yield each stream with its closings. An event is not included without those before it in its stream."""
    for stream, stream_events in groupby(stored_events, attrgetter("originator_id")):
        customer = CustomerClosings("", 0, [])
        for stored in stream_events:
            event = _decode(stored)
            if stored.originator_version != customer.version + 1:
                raise corrupted_error(stream, stored.id, ValueError(f"version {customer.version + 1} is missing"))
            if event is not None:
                if as_of is not None and not as_of.includes(stored.id):
                    break
                _apply(customer, event, stored)
            customer.version = stored.originator_version
        yield stream, customer


def _apply(customer: CustomerClosings, event: "_Event", stored: Notification) -> None:
    """Add a closing, or change the one that an event reopens or settles."""
    bounds = to_microseconds(event.start), to_microseconds(event.end)
    if isinstance(event, Closing):
        if event.customer != customer.customer:
            _check_stream(stored, event)
        customer.customer = event.customer
        customer.closings.append(StoredClosing(event, bounds, _counted(event, bounds), stored.id))
        return
    changed = customer.find(bounds)
    if changed is None:
        raise corrupted_error(stored.originator_id, stored.id, ValueError("the period is not closed"))
    if isinstance(event, SettledAdjustment):
        settled = replace(changed, settlements=(*changed.settlements, event))
        customer.closings[customer.closings.index(changed)] = settled
    else:
        customer.closings.remove(changed)
        customer.reopened[bounds] = changed


def _counted(closing: Closing, bounds: Bounds) -> Bounds:
    start, end = bounds
    counted_from, counted_until = closing.counted_from, closing.counted_until
    return (
        start if counted_from is None else to_microseconds(counted_from),
        end if counted_until is None else to_microseconds(counted_until),
    )


def _check_stream(stored: Notification, closing: Closing) -> None:
    if stored.originator_id != CustomerPeriods.stream_id(closing.event_name, closing.customer):
        error = ValueError(f"it is a closing of {closing.customer!r} on {closing.event_name!r}")
        raise corrupted_error(stored.originator_id, stored.id, error)


_Event = Closing | SettledAdjustment | _Reopening


def _decode(stored: Notification) -> _Event | None:
    """Decode an event of a customer's closed periods; others return None."""
    decode = _DECODERS.get(stored.topic)
    try:
        event = None if decode is None else decode(stored.state)
        if isinstance(event, Closing):  # the rules that were decoded are a part of the whole state: most are the same
            msgspec.structs.force_setattr(event, "rules", _shared_rules(bytes(event.rules)))
    except UNREADABLE_ERRORS as error:
        raise corrupted_error(stored.originator_id, stored.id, error) from error
    return event


@lru_cache(maxsize=256)
def _shared_rules(rules: bytes) -> msgspec.Raw:
    """Return the rules of a closing as a value that all closings with the same rules share."""
    return msgspec.Raw(rules)


_DECODERS: dict[str, Callable[[bytes], _Event]] = {
    CustomerPeriods.PeriodClosed.__name__: msgspec.json.Decoder(Closing).decode,
    CustomerPeriods.PeriodReopened.__name__: msgspec.json.Decoder(_Reopening).decode,
    CustomerPeriods.AdjustmentSettled.__name__: msgspec.json.Decoder(SettledAdjustment).decode,
}
