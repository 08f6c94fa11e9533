"""The ledger: every event that was ever recorded, in one order, never changed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import CanMutateAggregate
from eventsourcing.persistence import (
    InfrastructureFactory,
    Mapper,
    StoredEvent,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType

from ..domain.aggregate import Aggregate
from ..domain.errors import NoMeter
from ..domain.meter import STREAM_PREFIX as METER_PREFIX
from ..domain.meter import Meter
from ..domain.meter_event import STREAM_PREFIX as EVENT_PREFIX
from ..domain.meter_event import MeterEvent, ReportedUse
from ..projections.rows import LedgerEvent
from .mapper import EventMapper, decode_use, use_row
from .stores.sqlite import Datastore
from .stores.sqlite_ledger import SQLiteLedgerFactory, SQLiteLedgerRecorder, StoredBytes


class Held(NamedTuple):
    """What the ledger holds under an identifier, and where."""

    use: ReportedUse
    position: int


class Ledger(Application[str]):
    """The event-sourced application under Metering: it keeps meters and meter events.

    Its settings come from its arguments alone, so that a host application's environment can't change them.
    """

    def __init__(self, datastore: Datastore) -> None:
        self._datastore = datastore
        super().__init__({"SQLITE_DBNAME": datastore.pool.db_name, "ORIGINATOR_ID_TYPE": "text"})
        self.ledger_recorder = cast(SQLiteLedgerRecorder, self.recorder)

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """The settings given to this ledger, and nothing of the process's environment."""
        return Environment(name, dict(env or {}))

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Our SQLite factory."""
        return SQLiteLedgerFactory(env, self._datastore)

    def construct_mapper(self) -> Mapper[str]:
        """A mapper that lets the pydantic models say how they are stored."""
        return EventMapper(cast(Transcoder, None))

    def head(self) -> int:
        """The position of the newest event; 0 in an empty ledger."""
        return self.ledger_recorder.head()

    def page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Up to `limit` events after the position `after`, in order."""
        return self.ledger_recorder.page(after, limit)

    def stored_rows(self, first: int, last: int, limit: int) -> Sequence[StoredBytes]:
        """Up to `limit` rows at the positions from `first` to `last`, both included, in order, as they are stored."""
        return self.ledger_recorder.stored_rows(first, last, limit)

    def stream_positions(self, identifier: str) -> Sequence[int]:
        """The positions of all events of the meter event called `identifier`, in order; none where there is none."""
        return self.ledger_recorder.select_stream_positions(MeterEvent.stream(identifier))

    def meter(self, event_name: str) -> Meter:
        """The meter called `event_name`, as it is now. Raises NoMeter."""
        try:
            return cast(Meter, self.repository.get(Meter.stream(event_name)))
        except AggregateNotFoundError:
            raise NoMeter(
                f"There is no meter {event_name!r}; configure it first.", field="event_name", value=event_name
            ) from None

    def meter_names(self) -> Sequence[str]:
        """The event names of all meters, in order."""
        return [stream.removeprefix(METER_PREFIX) for stream in self.ledger_recorder.select_streams(METER_PREFIX)]

    def meter_event(self, identifier: str) -> tuple[MeterEvent, int] | None:
        """The meter event called `identifier` and the position of its recording, if there is one."""
        held = self.held((identifier,)).get(identifier)
        if held is None:
            return None
        return cast(MeterEvent, self.repository.get(MeterEvent.stream(identifier))), held.position

    def held(self, identifiers: Iterable[str]) -> dict[str, Held]:
        """What is recorded under each of `identifiers` that is taken."""
        stored = self.ledger_recorder.select_first_events([MeterEvent.stream(identifier) for identifier in identifiers])
        return {_identifier(one): Held(decode_use(one.state), one.id) for one in stored}

    def append(self, events: Sequence[CanMutateAggregate[str]]) -> None:
        """Store `events` in one transaction.

        Raises the library's IntegrityError, with nothing stored, where somebody else was faster.
        """
        if not events:
            return
        mapper = cast(EventMapper, self.mapper)
        self.ledger_recorder.insert_rows([mapper.to_row(cast(Aggregate.Event, event)) for event in events])

    def append_uses(self, uses: Mapping[str, ReportedUse]) -> dict[str, Held]:
        """Begin a meter event for each identifier, all in one transaction.

        Raises the library's IntegrityError, with nothing stored, where an identifier is taken.
        """
        rows = [use_row(MeterEvent.stream(identifier), use) for identifier, use in uses.items()]
        positions = self.ledger_recorder.insert_rows(rows)
        return {identifier: Held(use, at) for (identifier, use), at in zip(uses.items(), positions, strict=True)}

    def recordings(self, positions: Iterable[int]) -> Mapping[int, tuple[str, ReportedUse]]:
        """The identifier and the use recorded at each of `positions`."""
        stored = self.ledger_recorder.select_positions(list(positions))
        return {one.id: (_identifier(one), decode_use(one.state)) for one in stored}

    def cancels(self, positions: Iterable[int]) -> Mapping[int, MeterEvent.EventCancelled]:
        """The cancels at `positions`."""
        stored = self.ledger_recorder.select_positions(list(positions))
        return {one.id: cast(MeterEvent.EventCancelled, self.mapper.to_domain_event(one)) for one in stored}


def _identifier(stored: StoredEvent) -> str:
    return str(stored.originator_id).removeprefix(EVENT_PREFIX)
