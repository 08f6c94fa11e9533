"""The ledger: every event that was ever recorded, in one order, never changed."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, cast

import msgspec
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import CanMutateAggregate, OriginatorIDError, OriginatorVersionError
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    Mapper,
    MapperDeserialisationError,
    Notification,
    ProcessRecorder,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType

from ..domain.access_key import STREAM_PREFIX as KEY_PREFIX
from ..domain.access_key import AccessKey
from ..domain.aggregate import Aggregate
from ..domain.closed_periods import STREAM_PREFIX as PERIOD_PREFIX
from ..domain.closed_periods import ClosedPeriods
from ..domain.errors import LedgerDamaged, NoMeter
from ..domain.instants import microseconds
from ..domain.meter import STREAM_PREFIX as METER_PREFIX
from ..domain.meter import Meter
from ..domain.meter_event import STREAM_PREFIX as EVENT_PREFIX
from ..domain.meter_event import MeterEvent, ReportedUse
from ..domain.rules import Rules
from ..domain.texts import shown
from ..projections.rows import AsOf, LedgerEvent, StoredPage
from .mapper import EventMapper, decode_use, use_row
from .stores.kept import Beside, Keeper, KeptRow
from .stores.store import LedgerAppender, LedgerRecorder, Store, StoredBytes, StoredRow


class Held(NamedTuple):
    """What the ledger holds under an identifier, and where."""

    use: ReportedUse
    position: int


BesideUses = Callable[[Mapping[str, int]], Sequence[KeptRow]]
"""What is to be kept with new meter events, told by where the ledger now holds their identifiers."""


class Ledger(Application[str]):
    """The event-sourced application under Metering: it keeps meters, meter events, closed periods and access keys.

    Its settings come from its arguments alone, so that a host application's environment can't change them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        super().__init__({"ORIGINATOR_ID_TYPE": "text"})
        self.ledger_recorder = cast(LedgerRecorder, self.recorder)

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """The settings given to this ledger, and nothing of the process's environment."""
        return Environment(name, dict(env or {}))

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """What gives the library the recorder of our store."""
        return _RecorderFactory(env, self._store.recorder())

    def construct_mapper(self) -> Mapper[str]:
        """A mapper that lets the pydantic models say how they are stored."""
        return EventMapper(cast(Transcoder, None))

    def head(self) -> int:
        """The position of the newest event; 0 in an empty ledger."""
        return self.ledger_recorder.head()

    def page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Up to `limit` events after the position `after`, in order."""
        return self.ledger_recorder.page(after, limit)

    @property
    def is_read_beside(self) -> bool:
        """Whether a thread may read it while others write, each through whatever opened it."""
        return self.ledger_recorder.is_read_beside

    def page_at_once(self, after: int, limit: int) -> StoredPage:
        """Up to `limit` events after the position `after`, put together by the store."""
        return self.ledger_recorder.page_at_once(after, limit)

    def stored_rows(self, first: int, last: int, limit: int) -> Sequence[StoredBytes]:
        """Up to `limit` rows at the positions from `first` to `last`, both included, in order, as they are stored."""
        return self.ledger_recorder.stored_rows(first, last, limit)

    def stream_positions(self, identifier: str) -> Sequence[int]:
        """The positions of all events of the meter event called `identifier`, in order; none where there is none."""
        return self.ledger_recorder.select_stream_positions(MeterEvent.stream(identifier))

    def position_at(self, moment: int, head: int) -> int:
        """The last position up to `head` that was recorded up to a moment, by clocks that go forward; 0 if none was."""
        return bisect_right(range(1, head + 1), moment, key=self._recorded_at)

    def meter(self, event_name: str, version: int | None = None) -> Meter:
        """The meter called `event_name`, as it is now or was at a version. Raises NoMeter."""
        stream = Meter.stream(event_name)
        try:
            with _readable(stream):
                return cast(Meter, self.repository.get(stream, version=version))
        except AggregateNotFoundError:
            raise NoMeter(
                f"There is no meter {event_name!r}; configure it first.", field="event_name", value=event_name
            ) from None

    def changed_rules(self) -> dict[str, Rules]:
        """The rules in force of each meter that doesn't count by those it was configured with."""
        return {meter.event_name: meter.rules for meter in self.meters() if meter.revision > 1}

    def meters(self, as_of: AsOf | None = None) -> Iterator[Meter]:
        """All meters, as they were known, by event name."""
        return cast(Iterator[Meter], self._known(self.ledger_recorder.select_under(METER_PREFIX), as_of))

    def meter_names(self) -> Sequence[str]:
        """The event names of all meters, in order."""
        return [stream.removeprefix(METER_PREFIX) for stream in self.ledger_recorder.select_streams(METER_PREFIX)]

    def meter_changes(self, after: int, limit: int) -> Iterator[tuple[int, str, Meter, Meter | None]]:
        """Up to `limit` of what happened to meters after the position `after`, in order.

        Gives the position, what happened, and the meter as it was then and before.
        """
        for one in self.ledger_recorder.select_newer(METER_PREFIX, after, limit):
            event_name, version = str(one.originator_id).removeprefix(METER_PREFIX), one.originator_version
            before = self.meter(event_name, version - 1) if version > 1 else None
            yield one.id, one.topic, self.meter(event_name, version), before

    def meter_event(self, identifier: str) -> tuple[MeterEvent, int] | None:
        """The meter event called `identifier` and the position of its recording, if there is one."""
        held = self.held((identifier,)).get(identifier)
        if held is None:
            return None
        stream = MeterEvent.stream(identifier)
        with _readable(stream):
            return cast(MeterEvent, self.repository.get(stream)), held.position

    def held(self, identifiers: Iterable[str]) -> dict[str, Held]:
        """What is recorded under each of `identifiers` that is taken."""
        stored = self.ledger_recorder.select_first_events([MeterEvent.stream(identifier) for identifier in identifiers])
        return {
            _identifier(stream := str(one.originator_id)): Held(_use(one.id, stream, one.state), one.id)
            for one in stored
        }

    def closed_periods(self, event_name: str, customer: str) -> ClosedPeriods | None:
        """The periods of a customer on a meter that were ever closed; None where none was."""
        stream = ClosedPeriods.stream(event_name, customer)
        try:
            with _readable(stream):
                return cast(ClosedPeriods, self.repository.get(stream))
        except AggregateNotFoundError:
            return None

    def closings(
        self, event_name: str | None = None, customer: str | None = None, as_of: AsOf | None = None
    ) -> Iterator[ClosedPeriods]:
        """The closed periods of a customer on a meter, of all customers on it, or of all meters, as they were known."""
        if event_name is not None and customer is not None:
            stored = self.ledger_recorder.select_stream(ClosedPeriods.stream(event_name, customer))
        else:
            prefix = PERIOD_PREFIX if event_name is None else ClosedPeriods.stream(event_name, "")
            stored = self.ledger_recorder.select_under(prefix)
        return cast(Iterator[ClosedPeriods], self._known(stored, as_of))

    def closing_positions(self) -> Mapping[str, Sequence[int]]:
        """Where the ledger holds each closing, by the stream of its customer and meter, in order."""
        positions: defaultdict[str, list[int]] = defaultdict(list)
        for one in self.ledger_recorder.select_under(PERIOD_PREFIX):
            if one.topic == ClosedPeriods.PeriodClosed.__name__:
                positions[str(one.originator_id)].append(one.id)
        return positions

    def access_key(self, key_id: str, otherwise: Sequence[Notification] = ()) -> AccessKey | None:
        """The access key called `key_id`; where there is none, what is read out of `otherwise`, if it holds one."""
        stored = self.ledger_recorder.select_stream(AccessKey.stream(key_id)) or otherwise
        return next(cast(Iterator[AccessKey], self._known(stored, None)), None)

    def access_key_version(self, key_id: str) -> int:
        """How much has happened to the access key called `key_id`."""
        return len(self.ledger_recorder.select_stream_positions(AccessKey.stream(key_id)))

    def access_keys(self) -> list[AccessKey]:
        """All access keys, also revoked ones, in the order of their creation."""
        stored = self.ledger_recorder.select_under(KEY_PREFIX)
        created_at = {one.originator_id: one.id for one in stored if one.originator_version == 1}
        return sorted(cast(Iterator[AccessKey], self._known(stored, None)), key=lambda key: created_at[key.id])

    def append(self, events: Sequence[CanMutateAggregate[str]]) -> None:
        """Store `events` in one transaction.

        Raises the library's IntegrityError, with nothing stored, where somebody else was faster.
        """
        if events:
            self.ledger_recorder.insert_rows(self._rows(events))

    def listening(self) -> AbstractContextManager[Callable[[float], None]]:
        """Hear of what is recorded from here on: gives what waits for that, or for some seconds at most."""
        return self.ledger_recorder.listening()

    @contextmanager
    def alone(self) -> Generator["LedgerAlone"]:
        """Read the ledger and append to it while nobody else can append; it takes effect at the end."""
        with self.ledger_recorder.alone() as recorder:
            yield LedgerAlone(recorder, self._rows)

    def append_uses(
        self,
        uses: Mapping[str, ReportedUse],
        meters: Iterable[Meter] = (),
        beside: BesideUses | None = None,
    ) -> dict[str, int]:
        """Begin a meter event for each identifier, all in one transaction; give their positions.

        Raises the library's IntegrityError, with nothing stored, where an identifier is taken; and StreamMoved where
        one of `meters`, which decided on the uses, has changed since it was loaded. Given what is new, `beside` tells
        what is kept in the same transaction, also where nothing is new; raises AlreadyKept, with nothing stored.
        """

        def begun(positions: Sequence[int]) -> dict[str, int]:
            return dict(zip(uses, positions, strict=True))

        rows = [use_row(MeterEvent.stream(identifier), use) for identifier, use in uses.items()]
        versions = {meter.id: meter.version for meter in meters}
        kept: Beside | None = None if beside is None else lambda positions: beside(begun(positions))
        return begun(self.ledger_recorder.insert_rows(rows, versions, kept))

    def keeper(self) -> Keeper:
        """What is kept beside the events, in the same database."""
        return self.ledger_recorder.keeper()

    def recordings(self, positions: Iterable[int]) -> Mapping[int, tuple[str, ReportedUse]]:
        """The identifier and the use recorded at each of `positions`."""
        rows = self.ledger_recorder.select_positions(list(positions))
        return {at: (_identifier(stream), _use(at, stream, state)) for at, stream, _, _, state in rows}

    def cancels(self, positions: Iterable[int]) -> Mapping[int, MeterEvent.EventCancelled]:
        """The cancels at `positions`."""
        rows = self.ledger_recorder.select_positions(list(positions))
        return {
            at: cast(MeterEvent.EventCancelled, self._event(Notification(stream, version, topic, state, at)))
            for at, stream, version, topic, state in rows
        }

    def _known(self, stored: Iterable[Notification], as_of: AsOf | None) -> Iterator[Aggregate]:
        """The aggregates whose events are `stored`, by stream and version, as they were known.

        Nobody knows an event before the one that it rests on, also where the clock was put back in between.
        """
        for _, events in groupby(stored, attrgetter("originator_id")):
            aggregate: Aggregate | None = None
            for one in events:
                event = self._event(one)
                if as_of is not None and not as_of.includes(microseconds(event.timestamp), one.id):
                    break
                with _readable(one.originator_id, one.id):
                    aggregate = event.mutate(aggregate)
            if aggregate is not None:
                yield aggregate

    def _event(self, stored: Notification) -> Aggregate.Event:
        with _readable(stored.originator_id, stored.id):
            return cast(Aggregate.Event, self.mapper.to_domain_event(stored))

    def _recorded_at(self, position: int) -> int:
        ((_, _, state),) = self.page(position - 1, 1)
        with _readable("the ledger", position):
            return microseconds(_decode_recorded(state).recorded_at)

    def _rows(self, events: Sequence[CanMutateAggregate[str]]) -> list[StoredRow]:
        mapper = cast(EventMapper, self.mapper)
        return [mapper.to_row(cast(Aggregate.Event, event)) for event in events]


class _RecorderFactory(InfrastructureFactory[Any]):
    """Gives the library a recorder that is there already."""

    def __init__(self, env: Environment, recorder: LedgerRecorder) -> None:
        super().__init__(env)
        self._recorder = recorder

    def application_recorder(self) -> ApplicationRecorder:
        """The recorder of the ledger."""
        return cast(ApplicationRecorder, self._recorder)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """No snapshots are kept."""
        raise NotImplementedError(purpose)

    def tracking_recorder(self, tracking_recorder_class: type[Any] | None = None) -> Any:
        """The read models are tracked by themselves."""
        raise NotImplementedError(tracking_recorder_class)

    def process_recorder(self) -> ProcessRecorder:
        """The read models are tracked by themselves."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the ledger go."""
        self._recorder.close()


class LedgerAlone:
    """The ledger while nobody else can append to it."""

    def __init__(
        self, recorder: LedgerAppender, rows: Callable[[Sequence[CanMutateAggregate[str]]], list[StoredRow]]
    ) -> None:
        self.head = recorder.head
        self.page = recorder.page
        self._recorder = recorder
        self._rows = rows

    def append(self, events: Sequence[CanMutateAggregate[str]]) -> None:
        """Store `events`, at the end of the transaction."""
        self._recorder.insert_rows(self._rows(events))


def _identifier(stream: str) -> str:
    return stream.removeprefix(EVENT_PREFIX)


class _Recorded(msgspec.Struct):
    recorded_at: datetime


_decode_recorded = msgspec.json.Decoder(_Recorded).decode


def _use(position: int, stream: str, state: bytes) -> ReportedUse:
    try:  # said in full: every use of an explanation passes here
        return decode_use(state)
    except _UNREADABLE as error:
        raise _damaged(stream, position, error) from error


_UNREADABLE = (
    MapperDeserialisationError, OriginatorIDError, OriginatorVersionError, msgspec.MsgspecError, AssertionError,
    AttributeError, TypeError, ValueError,
)  # fmt: skip


@contextmanager
def _readable(stream: object, position: int | None = None) -> Generator[None]:
    """Raise LedgerDamaged where stored events can't be read."""
    try:
        yield
    except _UNREADABLE as error:
        raise _damaged(stream, position, error) from error


def _damaged(stream: object, position: int | None, error: Exception) -> LedgerDamaged:
    place = "" if position is None else f" at position {position}"
    return LedgerDamaged(
        f"What is stored of {shown(stream)}{place} can't be read: {str(error) or type(error).__name__}. Ledgers don't "
        "write such events; 'tallybook verify --seals' tells what was changed, and a backup has it.",
        field="position",
        value=position,
    )
