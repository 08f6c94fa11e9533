"""The ledger: all recorded events in one order, never changed."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, cast

import msgspec
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import CanMutateAggregate
from eventsourcing.persistence import InfrastructureFactory, Mapper, Notification, Transcoder
from eventsourcing.utils import Environment, EnvType

from ...domain.access_key import STREAM_PREFIX as KEY_PREFIX
from ...domain.access_key import AccessKey
from ...domain.aggregate import Aggregate
from ...domain.customer_periods import STREAM_PREFIX as PERIOD_PREFIX
from ...domain.customer_periods import CustomerPeriods
from ...domain.meter import STREAM_PREFIX as METER_PREFIX
from ...domain.meter import Meter
from ...domain.meter_event import STREAM_PREFIX as EVENT_PREFIX
from ...domain.meter_event import MeterEvent, MeterEventData
from ...domain.timestamps import to_microseconds
from ...projections.models import AsOf, LedgerEvent, PinnedMeter, PinnedRules, RawPage
from ...projections.ports import EVENT_CANCELLED
from ..interruption import check_between, check_interruption
from ..similar_names import meter_not_found
from ..storage.key_value import EntriesForPositions, KeyValueEntry, KeyValueStore
from ..storage.ports import EventRecorder, EventRow, PositionedEventRow, RawEventRow, Store
from .exclusive import ExclusiveLedger
from .mapper import EventMapper, decode_meter_event, meter_event_rows, with_author
from .recorder_factory import RecorderFactory
from .unreadable_events import UNREADABLE_ERRORS, corrupted_error, raise_corrupted


class StoredMeterEvent(NamedTuple):
    """A meter event as it is stored, and its ledger position."""

    data: MeterEventData
    position: int


AttachToPositions = Callable[[Mapping[str, int]], Sequence[KeyValueEntry]]
"""Returns key-value entries to insert with new meter events, given the positions of the new identifiers."""


class Ledger(Application[str]):
    """The event-sourced application: stores and loads meters, meter events, closed periods and access keys.

    It is configured by its arguments alone, so that the environment of the host application can't change it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        super().__init__({"ORIGINATOR_ID_TYPE": "text"})
        self.ledger_recorder = cast(EventRecorder, self.recorder)
        self._recorded_head = 0

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """Return the settings passed to this ledger, without those of the process's environment."""
        return Environment(name, dict(env or {}))

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Return the factory through which the library gets the recorder of the store."""
        return RecorderFactory(env, self.store.open_recorder())

    def construct_mapper(self) -> Mapper[str]:
        """Return the mapper of events to stored JSON; it needs no transcoder."""
        return EventMapper(cast(Transcoder, None))

    # --- reading in order -------------------------------------------------------------------------

    def head(self) -> int:
        """Return the position of the newest event; 0 if the ledger is empty."""
        return self.ledger_recorder.head()

    @property
    def recorded_head(self) -> int:
        """The position of the newest meter event that this process has recorded; 0 before the first."""
        return self._recorded_head

    def read_page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Return up to `limit` events after the position `after`, in order."""
        check_interruption()
        return self.ledger_recorder.read_page(after, limit)

    @property
    def supports_concurrent_reads(self) -> bool:
        """Whether one thread may read the ledger while others write."""
        return self.ledger_recorder.supports_concurrent_reads

    def read_page_bulk(self, after: int, limit: int) -> RawPage:
        """Return up to `limit` events after the position `after` as one page document, assembled by the database."""
        check_interruption()
        return self.ledger_recorder.read_page_bulk(after, limit)

    def raw_rows(self, first: int, last: int, limit: int) -> Sequence[RawEventRow]:
        """Return up to `limit` rows at the positions `first` to `last`, both included, in order, as they are stored."""
        return self.ledger_recorder.raw_rows(first, last, limit)

    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]:
        """Return the rows at the positions `first` to `last`, both included, in order."""
        return self.ledger_recorder.stored_rows(first, last)

    def append_listener(self) -> AbstractContextManager[Callable[[float], None]]:
        """Listen for appended events. The value is a function that waits for one, up to a number of seconds."""
        return self.ledger_recorder.append_listener()

    # --- meters -----------------------------------------------------------------------------------

    def meter(self, event_name: str, version: int | None = None, *, suggest: bool = True) -> Meter:
        """Return the meter named `event_name`, as it is now or was at a version.

        Raises MeterNotFound, whose message names similar meters if `suggest`; that takes longer.
        """
        stream = Meter.stream_id(event_name)
        try:
            with raise_corrupted(stream):
                return cast(Meter, self.repository.get(stream, version=version))
        except AggregateNotFoundError:
            raise meter_not_found(event_name, self._meter_names() if suggest else ()) from None

    def _meter_names(self) -> Iterator[str]:
        for stored in self.ledger_recorder.select_by_prefix(METER_PREFIX):
            if stored.originator_version == 1:
                yield str(stored.originator_id).removeprefix(METER_PREFIX)

    def meters(self, as_of: AsOf | None = None) -> Iterator[Meter]:
        """Return all meters that were configured at `as_of`, as they were then, by event name."""
        return cast(Iterator[Meter], self.aggregates(self.ledger_recorder.select_by_prefix(METER_PREFIX), as_of))

    def changed_rules(self) -> PinnedRules:
        """Return the rules over time, by event name, of derived meters, and of meters whose rules have changed."""
        meters = (meter for meter in self.meters() if meter.revision > 1 or meter.source is not None)
        return {meter.event_name: PinnedMeter.of(meter) for meter in meters}

    def derived_meters(self, source: Meter) -> list[Meter]:
        """Return the meters that are derived from a meter, as they are now, in one query."""
        streams = [Meter.stream_id(event_name) for event_name in source.derived_meters]
        return list(cast(Iterator[Meter], self.aggregates(self.ledger_recorder.select_streams(streams))))

    def meter_changes(self, after: int, limit: int) -> Iterator[tuple[int, str, Meter, Meter | None]]:
        """Return up to `limit` changes of meters after the position `after`, in order.

        Each has the position, the topic of the event, the meter after it and the meter before it.
        """
        latest: dict[str, Meter] = {}
        for stored in self.ledger_recorder.select_by_prefix_after(METER_PREFIX, after, limit):
            event_name, version = str(stored.originator_id).removeprefix(METER_PREFIX), stored.originator_version
            before = latest.get(event_name) or (self.meter(event_name, version - 1) if version > 1 else None)
            meter = cast(Meter, self._event(stored).mutate(copy(before)))
            latest[event_name] = meter
            yield stored.id, stored.topic, meter, before

    def rules_events(self, event_name: str) -> Iterator[tuple[int, Meter.Configured | Meter.RulesChanged]]:
        """Yield the events that each hold a revision of a meter's rules, with their positions, in order."""
        for stored in self.ledger_recorder.select_stream(Meter.stream_id(event_name)):
            event = self._event(stored)
            if isinstance(event, Meter.Configured | Meter.RulesChanged):
                yield stored.id, event

    # --- meter events -----------------------------------------------------------------------------

    def meter_event(self, identifier: str) -> tuple[MeterEvent, int] | None:
        """Return the meter event with this identifier and its ledger position; None if there is none."""
        stored = self.find_meter_events((identifier,)).get(identifier)
        if stored is None:
            return None
        stream = MeterEvent.stream_id(identifier)
        with raise_corrupted(stream):
            return cast(MeterEvent, self.repository.get(stream)), stored.position

    def find_meter_events(self, identifiers: Iterable[str]) -> dict[str, StoredMeterEvent]:
        """Return the recorded meter events among `identifiers`, by identifier."""
        recorder = self.ledger_recorder
        first_rows = recorder.select_first_rows([MeterEvent.stream_id(identifier) for identifier in identifiers])
        return stored_meter_events(recorder.restore(first_rows))

    def count_cancelled(self, identifiers: Iterable[str]) -> int:
        """Return how many of the meter events with these identifiers are cancelled."""
        stored = self.ledger_recorder.select_streams(list(map(MeterEvent.stream_id, identifiers)))
        last_events = {event.originator_id: event.topic for event in stored}  # they are ordered by version
        return sum(topic == EVENT_CANCELLED for topic in last_events.values())

    def meter_events_at(self, positions: Iterable[int]) -> Mapping[int, tuple[str, MeterEventData]]:
        """Return the identifier and the data of the meter event recorded at each of `positions`."""
        check_interruption()
        rows = self.ledger_recorder.select_at(list(positions))
        return {
            position: (identifier_of(stream), _decode_data(position, stream, state))
            for position, stream, _, _, state in rows
        }

    def cancellations_at(
        self, positions: Iterable[int]
    ) -> Mapping[int, MeterEvent.EventCancelled | MeterEvent.CancelRevoked]:
        """Return the cancellation or revocation recorded at each of `positions`."""
        rows = self.ledger_recorder.select_at(list(positions))
        return {
            position: cast(
                MeterEvent.EventCancelled | MeterEvent.CancelRevoked,
                self._event(Notification(stream, version, topic, state, position)),
            )
            for position, stream, version, topic, state in rows
        }

    def stream_positions(self, identifier: str) -> Sequence[int]:
        """Return the positions of all events of a meter event, in order; none if it is not recorded."""
        return self.ledger_recorder.select_stream_positions(MeterEvent.stream_id(identifier))

    # --- closed periods ---------------------------------------------------------------------------

    def customer_periods(self, event_name: str, customer: str) -> CustomerPeriods | None:
        """Return the closed periods of a customer on a meter; None if no period was ever closed."""
        stream = CustomerPeriods.stream_id(event_name, customer)
        try:
            with raise_corrupted(stream):
                return cast(CustomerPeriods, self.repository.get(stream))
        except AggregateNotFoundError:
            return None

    def closed_periods(
        self, event_name: str | None = None, customer: str | None = None, as_of: AsOf | None = None
    ) -> Iterator[CustomerPeriods]:
        """Return the closed periods at `as_of` of a customer on a meter, of all customers on it, or of all meters."""
        if event_name is not None and customer is not None:
            stored = self.ledger_recorder.select_stream(CustomerPeriods.stream_id(event_name, customer))
        else:
            prefix = PERIOD_PREFIX if event_name is None else CustomerPeriods.stream_id(event_name, "")
            stored = self.ledger_recorder.select_by_prefix(prefix)
        return cast(Iterator[CustomerPeriods], self.aggregates(stored, as_of))

    # --- access keys ------------------------------------------------------------------------------

    def find_access_key(self, key_id: str, default: Sequence[Notification] = ()) -> AccessKey | None:
        """Return the access key with this id, or one loaded from the events `default`; None if there are none."""
        stored = self.ledger_recorder.select_stream(AccessKey.stream_id(key_id)) or default
        return next(cast(Iterator[AccessKey], self.aggregates(stored)), None)

    def access_key_version(self, key_id: str) -> int:
        """Return the version of an access key: the number of its events."""
        return len(self.ledger_recorder.select_stream_positions(AccessKey.stream_id(key_id)))

    def access_keys(self) -> list[AccessKey]:
        """Return all access keys in the order of their creation, including revoked ones."""
        stored = self.ledger_recorder.select_by_prefix(KEY_PREFIX)
        created_at = {event.originator_id: event.id for event in stored if event.originator_version == 1}
        return sorted(cast(Iterator[AccessKey], self.aggregates(stored)), key=lambda key: created_at[key.id])

    # --- appending --------------------------------------------------------------------------------

    def append(self, events: Sequence[CanMutateAggregate[str]], versions: Mapping[str, int] | None = None) -> None:
        """Store `events` in one transaction.

        Raises the library's IntegrityError, with nothing stored, if another process stored one of these versions, and
        ConcurrentStreamUpdate if a stream has grown past its version in `versions`.
        """
        if events:
            self.ledger_recorder.insert_rows(self._rows(events), versions)

    def append_meter_events(
        self,
        data_by_identifier: Mapping[str, MeterEventData],
        meters: Iterable[Meter] = (),
        attach: AttachToPositions | None = None,
        last_events: Sequence[CanMutateAggregate[str]] = (),
    ) -> dict[str, int]:
        """Store a new meter event for each identifier in one transaction, and return their positions.

        `last_events` are stored after them. `meters` are those that accepted the events. `attach` returns key-value
        entries to insert in the same transaction, also if there are no events. Nothing is stored if an error is raised:
        the library's IntegrityError if an identifier is taken, ConcurrentStreamUpdate if a meter has changed since it
        was loaded, and EntryExists if a key-value entry exists.
        """

        def by_identifier(positions: Sequence[int]) -> dict[str, int]:
            return dict(zip(data_by_identifier, positions, strict=False))  # those of `last_events` follow

        rows = meter_event_rows(data_by_identifier) + self._rows(last_events)
        versions = {meter.id: meter.version for meter in meters}
        attach_to_rows: EntriesForPositions | None = (
            None if attach is None else lambda positions: attach(by_identifier(positions))
        )
        positions = self.ledger_recorder.insert_rows(rows, versions, attach_to_rows)
        if positions:
            self._recorded_head = positions[-1]
        return by_identifier(positions)

    @contextmanager
    def exclusive(self) -> Generator[ExclusiveLedger]:
        """Read and append while no other process can append. The events are stored at the end of the block."""
        with self.ledger_recorder.exclusive() as recorder:
            yield ExclusiveLedger(recorder, self._rows)

    def key_value_store(self) -> KeyValueStore:
        """Return the key-value store in the same database."""
        return self.ledger_recorder.key_value_store()

    def aggregates(self, stored_events: Iterable[Notification], as_of: AsOf | None = None) -> Iterator[Aggregate]:
        """Return the aggregates of `stored_events`, which are sorted by stream and version, as they were at `as_of`."""
        for _, stream_events in check_between(groupby(stored_events, attrgetter("originator_id"))):
            aggregate: Aggregate | None = None
            for stored in stream_events:
                if as_of is not None and not as_of.includes(stored.id):
                    break
                event = self._event(stored)
                with raise_corrupted(stored.originator_id, stored.id):
                    aggregate = event.mutate(aggregate)
            if aggregate is not None:
                yield aggregate

    def _event(self, stored: Notification) -> Aggregate.Event:
        with raise_corrupted(stored.originator_id, stored.id):
            return cast(Aggregate.Event, self.mapper.to_domain_event(stored))

    def recorded_at(self, position: int) -> int:
        """Return when the event at a position, or the last one before it, was recorded; 0 in an empty ledger."""
        position = min(position, self.head())
        if position <= 0:
            return 0
        ((_, _, state),) = self.read_page(position - 1, 1)
        with raise_corrupted("the ledger", position):
            return to_microseconds(_decode_recorded(state).recorded_at)

    def _rows(self, events: Sequence[CanMutateAggregate[str]]) -> list[EventRow]:
        mapper = cast(EventMapper, self.mapper)
        return [mapper.to_row(with_author(cast(Aggregate.Event, event))) for event in events]


class _Recorded(msgspec.Struct):
    recorded_at: datetime


_decode_recorded = msgspec.json.Decoder(_Recorded).decode


def identifier_of(stream: str) -> str:
    """Return the identifier of the meter event whose stream this is."""
    return stream.removeprefix(EVENT_PREFIX)


def stored_meter_events(rows: Iterable[PositionedEventRow]) -> dict[str, StoredMeterEvent]:
    """Return the meter events in the first rows of their streams, by identifier."""
    return {
        identifier_of(stream): StoredMeterEvent(_decode_data(position, stream, state), position)
        for position, stream, _, _, state in rows
    }


def _decode_data(position: int, stream: str, state: bytes) -> MeterEventData:
    try:  # without raise_corrupted, which is slower: this runs for each event of an explanation
        return decode_meter_event(state)
    except UNREADABLE_ERRORS as error:
        raise corrupted_error(stream, position, error) from error
