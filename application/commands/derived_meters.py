"""Derived meters: count the events of another meter, also those recorded before, by other rules."""

from collections.abc import Callable
from datetime import datetime

from eventsourcing.persistence import IntegrityError

from ...domain.errors import MeterNotFound
from ...domain.meter import Meter
from ...domain.rules import Rules
from ...domain.rules_schedule import RulesSchedule
from ...domain.timestamps import ensure_utc
from ...projections.models import PinnedMeter
from ...projections.projector import Progress
from ..ledger.ledger import Ledger
from ..read_models.generations import Generations
from ..read_models.rule_compatibility import are_compatible


class DerivedMeterCommands:
    """Configures derived meters, with a generation that counts them from the first event of their source on."""

    def __init__(self, ledger: Ledger, generations: Generations, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._generations = generations
        self._clock = clock

    def configure(
        self,
        event_name: str,
        display_name: str,
        rules: Rules,
        source_name: str,
        by: str | None,
        progress: Callable[[Progress], None] | None,
    ) -> Meter:
        """Store a new derived meter, make a generation live that counts all events of its source, and return the meter.

        If another process configured a meter of this name meanwhile, that one is returned.

        Raises MeterNotFound, MeterIsDerived or InvalidParameter for the source, IncompatibleRules with the recorded
        events that the rules reject, and RebuildInProgress. Nothing is changed then.
        """
        self._source(source_name).add_derived_meter(event_name, at=self._now())  # checked before anything is built
        pinned = PinnedMeter(RulesSchedule.always(rules).distinct_parts, source_name)
        with self._generations.views.generation_lock("configuring a derived meter"):
            existing = self._find(event_name)
            if existing is not None:
                return existing
            candidate = self._generations.build_with_derived_meter(event_name, pinned, progress)
            while True:
                position = self._generations.catch_up(candidate)
                meter = self._try_append(event_name, display_name, rules, source_name, position, by)
                if meter is not None:
                    break
                existing = self._find(event_name)
                if existing is not None:
                    self._generations.views.drop(candidate.number)
                    return existing
            self._generations.catch_up(candidate)
            self._generations.make_live(candidate)
        return meter

    def _try_append(
        self, event_name: str, display_name: str, rules: Rules, source_name: str, position: int, by: str | None
    ) -> Meter | None:
        """Append the events of a new meter and its source, and return the meter.

        They are appended while no other process can append, so that no event is recorded that the rules reject. In that
        transaction only the events recorded after `position` are read, and no read models are used: a process that has
        them locked may be waiting for the ledger. Return None, with nothing stored, if the rules reject one of these
        events, at which `catch_up` stops, or if either meter was changed meanwhile.
        """
        pinned = PinnedMeter(RulesSchedule.always(rules).distinct_parts, source_name)
        source = self._source(source_name)
        try:
            with self._ledger.exclusive() as ledger:
                if not are_compatible({event_name: pinned}, ledger, after=position):
                    return None
                now = self._now()
                meter = Meter.configure(event_name, display_name, rules, at=now, source=source_name, by=by)
                source.add_derived_meter(event_name, at=now, by=by)
                ledger.append([*meter.collect_events(), *source.collect_events()])
        except IntegrityError:
            return None
        return meter

    def _source(self, source_name: str) -> Meter:
        try:
            return self._ledger.meter(source_name)
        except MeterNotFound as error:
            raise MeterNotFound(error.message, field="source", value=source_name) from error

    def _find(self, event_name: str) -> Meter | None:
        try:
            return self._ledger.meter(event_name, suggest=False)
        except MeterNotFound:
            return None

    def _now(self) -> datetime:
        return ensure_utc(self._clock(), "clock")
