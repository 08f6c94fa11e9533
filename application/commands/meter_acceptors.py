"""The meters that accept the meter events of a batch. They are kept in memory from one batch to the next."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ...domain.acceptance_policy import AcceptancePolicy, default_accepted_range
from ...domain.authorship import AcceptedUnder
from ...domain.combinations import DimensionCombinations
from ...domain.derived_meters import acceptor_with_derived_meters
from ...domain.errors import MeterNotFound
from ...domain.meter import EventAcceptor, Meter
from ...domain.meter_event import MeterEventData
from ..ledger.ledger import Ledger
from ..storage.ports import ConcurrentStreamUpdate

MAX_CACHED_METERS = 1_000


class LoadedMeter(NamedTuple):
    """A meter with the meters that are derived from it, as they were when they were loaded."""

    meter: Meter
    derived_meters: Sequence[Meter]

    @property
    def versions(self) -> dict[str, int]:
        """The version of each of these meters, by stream."""
        return {meter.id: meter.version for meter in (self.meter, *self.derived_meters)}


class MeterCache:
    """The meters that were loaded last, by event name. Threads share it.

    Another process may have changed one since. Accepted meter events are safe: the transaction that stores them
    compares the versions of the meters. For rejected ones, `MeterAcceptors` does that.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loaded: dict[str, LoadedMeter] = {}

    def find(self, event_name: str) -> LoadedMeter | None:
        """Return a meter if it is in memory."""
        return self._loaded.get(event_name)

    def load(self, event_name: str) -> LoadedMeter:
        """Return a meter as it is now. Raises MeterNotFound."""
        meter = self._ledger.meter(event_name, suggest=False)
        derived_meters = self._ledger.derived_meters(meter) if meter.derived_meters else ()
        if len(self._loaded) >= MAX_CACHED_METERS:
            self._loaded.clear()
        loaded = self._loaded[event_name] = LoadedMeter(meter, derived_meters)
        return loaded

    def clear(self) -> None:
        """Forget all meters."""
        self._loaded.clear()


class QueryNeeded(Exception):
    """A meter has to be read from the ledger, which isn't possible at the moment."""


class MeterAcceptors(dict[str, EventAcceptor]):
    """By event name, the functions that accept or reject the meter events of one batch.

    `meters` are the meters that were used. A missing function is made; this raises MeterNotFound. With `is_offline`,
    QueryNeeded is raised instead of reading a meter from the ledger.
    """

    def __init__(
        self,
        cache: MeterCache,
        policy: AcceptancePolicy,
        combinations: DimensionCombinations,
        now: datetime,
        *,
        is_offline: bool = False,
    ) -> None:
        super().__init__()
        self.meters: list[Meter] = []
        self.has_default_ages = policy.has_default_ages
        self._cache = cache
        self._is_offline = is_offline
        self._policy = policy
        self._combinations = combinations
        self._now = now
        self._default_range = default_accepted_range(now)
        self._errors: dict[str, MeterNotFound] = {}
        self._unchecked: dict[str, LoadedMeter] = {}
        """The meters that may have changed before this batch."""

    def __missing__(self, event_name: str) -> EventAcceptor:
        if event_name in self._errors:
            raise self._errors[event_name].with_traceback(None)  # it would grow by the frames of each event
        loaded = self._cache.find(event_name)
        if loaded is not None:
            self._unchecked[event_name] = loaded
        else:
            try:
                loaded = self._load(event_name)
            except MeterNotFound as error:
                self._errors[event_name] = error
                raise
        self.meters += (loaded.meter, *loaded.derived_meters)
        acceptor = self[event_name] = self._acceptor_of(*loaded)
        return acceptor

    def require_current(self, event_name: str) -> None:
        """Raise ConcurrentStreamUpdate if a meter that has rejected an event has changed since it was loaded."""
        loaded = self._unchecked.pop(event_name, None)
        if loaded is not None and self._load(event_name).versions != loaded.versions:
            raise ConcurrentStreamUpdate(loaded.meter.id)

    def limits_beyond_defaults(self, data: MeterEventData, submitted_at: datetime | None) -> AcceptedUnder | None:
        """Return the limits by which a meter event is accepted that the default policy would reject."""
        default_range = self._default_range if submitted_at is None else default_accepted_range(submitted_at)
        return self._policy.beyond_default_ages(data.occurred_at, default_range)

    def _load(self, event_name: str) -> LoadedMeter:
        if self._is_offline:
            raise QueryNeeded
        return self._cache.load(event_name)

    def _acceptor_of(self, meter: Meter, derived_meters: Sequence[Meter]) -> EventAcceptor:
        at, policy, combinations = self._now, self._policy, self._combinations
        if not derived_meters:
            return meter.acceptor(at=at, policy=policy, combinations=combinations)
        return acceptor_with_derived_meters(meter, derived_meters, at=at, policy=policy, combinations=combinations)
