"""Generations of the read models: build them while another one is live, bring them up to date, make them live."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

from ...domain.errors import (
    GenerationInUse,
    GenerationNotFound,
    InvalidParameter,
    LedgerUnavailable,
    ProjectionStopped,
)
from ...domain.meter import Meter
from ...domain.rules_schedule import ALWAYS, check_effective_from
from ...domain.text import abbreviated_repr
from ...domain.timestamps import to_microseconds
from ...projections.models import PAGE_SIZE, Generation, GenerationState, PinnedMeter, PinnedRules
from ...projections.projector import Progress, Projector
from ..ledger.ledger import Ledger
from ..rules_arguments import rules_from
from ..storage.ports import GenerationStore
from ..validation import require_event_name, require_generation
from .rule_compatibility import incompatible_events_error
from .worker_pool import WORKER_PROCESSES

RuleChanges = Mapping[str, Mapping[str, object]]
"""By event name, some fields of the rules and their new values."""

RULES_SWITCH_TIMEOUT_SECONDS = 600
MAX_RETIRED, MAX_CANDIDATES = 3, 10
"""How many retired generations stay, and how many that were never live: each takes as much space as the live one."""
_CANDIDATES = frozenset({GenerationState.BUILDING, GenerationState.READY})
_REUSABLE_STATES = frozenset({GenerationState.BUILDING, GenerationState.READY, GenerationState.RETIRED})

_log = logging.getLogger("tallybook")


def rules_after_change(meter: Meter, changes: object, effective_from: datetime | None) -> PinnedMeter:
    """Return the rules over time of a meter after a change. Raises InvalidParameter or InvalidEffectiveFrom."""
    start = ALWAYS if effective_from is None else to_microseconds(effective_from)
    changed_rules = rules_from(meter.schedule, start, changes)
    check_effective_from(meter.schedule, start, changed_rules)
    parts = meter.schedule.change(start, meter.revision + 1, changed_rules).distinct_parts
    return PinnedMeter(parts, meter.source)


class Generations:
    """Builds generations. One process at a time works on them; the live one answers queries meanwhile."""

    def __init__(
        self, ledger: Ledger, views: GenerationStore, *, max_retired: int = MAX_RETIRED,
        max_candidates: int = MAX_CANDIDATES,
    ) -> None:  # fmt: skip
        self.ledger = ledger
        self.views = views
        self._max_retired = max_retired
        self._max_candidates = max_candidates

    def list(self) -> list[Generation]:
        """Return all generations in the order of their creation."""
        return self.views.generations()

    def get(self, generation: int) -> Generation:
        """Return a generation by its number. Raises GenerationNotFound."""
        generation = require_generation(generation)
        for existing in self.list():
            if existing.number == generation:
                return existing
        raise GenerationNotFound(
            f"There is no generation {generation} of the read models.", field="generation", value=generation
        )

    def get_built(self, generation: int) -> Generation:
        """Return a generation that is completely built. Raises GenerationNotFound or GenerationInUse."""
        existing = self.get(generation)
        if existing.state is GenerationState.BUILDING:
            raise GenerationInUse(
                f"Generation {generation} isn't built to the end; rebuild resumes it.",
                field="generation",
                value=generation,
            )
        return existing

    def rebuild(
        self, rules: RuleChanges | None, progress: Callable[[Progress], None] | None, page_size: int = PAGE_SIZE
    ) -> Generation:
        """Build a generation from the ledger, or resume an interrupted one under the same rules."""
        with self.views.generation_lock("rebuilding"):
            return self._get_or_build(self._target_rules(rules or {}), {GenerationState.BUILDING}, progress, page_size)

    def build_candidate(
        self, rules: RuleChanges, effective_from: datetime | None, progress: Callable[[Progress], None] | None
    ) -> Generation:
        """Return a generation under changed rules: an existing one, or a new one."""
        with self.views.generation_lock("building a candidate"):
            return self.get_or_build_candidate(rules, effective_from, progress)

    def get_or_build_candidate(
        self, rules: RuleChanges, effective_from: datetime | None, progress: Callable[[Progress], None] | None
    ) -> Generation:
        """Return a generation under rules that are changed for usage from `effective_from` on, or for all usage.

        The caller has the generation lock. Raises InvalidEffectiveFrom, and InvalidParameter if nothing changes.
        """
        target_rules = self._target_rules(rules, effective_from)
        current_rules = {name: PinnedMeter.of(self.ledger.meter(name)) for name in rules}
        if all(target_rules[event_name] == pinned for event_name, pinned in current_rules.items()):
            raise InvalidParameter(
                f"Nothing changes: {', '.join(map(repr, rules))} has these rules already.", field="rules"
            )
        return self._get_or_build(target_rules, _REUSABLE_STATES, progress, PAGE_SIZE)

    def build_with_derived_meter(
        self, event_name: str, pinned: PinnedMeter, progress: Callable[[Progress], None] | None
    ) -> Generation:
        """Return a generation under the present rules in which a derived meter counts all events of its source.

        The meter isn't configured yet. The caller has the generation lock. Raises IncompatibleRules.
        """
        target_rules = {**self._target_rules({}), event_name: pinned}
        return self._get_or_build(target_rules, _REUSABLE_STATES, progress, PAGE_SIZE)

    def make_live(self, generation: Generation) -> None:
        """Make a generation live and retire the live one. The caller has the generation lock.

        Retired ones are dropped, except that one and the newest others: `max_retired` in all.
        """
        retired = [number for number in self._numbers({GenerationState.RETIRED}) if number != generation.number]
        self.views.make_live(generation.number, self._revisions())
        self._drop_oldest(retired, self._max_retired - 1)

    def _numbers(self, states: Collection[GenerationState]) -> Sequence[int]:
        return [generation.number for generation in self.list() if generation.state in states]

    def _drop_oldest(self, numbers: Sequence[int], max_count: int) -> None:
        """Drop the first ones of some generations, so that at most this many are left."""
        for number in numbers[: max(len(numbers) - max_count, 0)]:
            try:
                self.views.drop(number, is_awaited=False)
            except LedgerUnavailable as error:  # such as a query or a dump of the database that uses it, and others
                _log.warning("Generation %s isn't dropped until the next one is built or promoted: %s", number, error)
                break

    def drop(self, generation: int) -> None:
        """Delete a generation. Raises GenerationInUse if it is live."""
        generation = require_generation(generation)
        with self.views.generation_lock(f"dropping generation {generation}"):
            if self.get(generation).state is GenerationState.LIVE:
                raise GenerationInUse(
                    f"Generation {generation} is live; promote another one first.", field="generation", value=generation
                )
            self.views.drop(generation)

    def switch_to_current_rules(self) -> None:
        """Make a generation under the current rules live, if the live one is under other rules.

        That happens while another process promotes a generation, which this waits for, and after a promotion was
        interrupted, which this completes.
        """
        with self.views.generation_lock("following changed rules", timeout_seconds=RULES_SWITCH_TIMEOUT_SECONDS):
            live = next(generation for generation in self.list() if generation.state is GenerationState.LIVE)
            if self.pending_rule_changes(live):
                _log.warning("The live read models are under other rules than the current ones; switching them.")
                self.make_live(self._get_or_build(self._target_rules({}), _REUSABLE_STATES, None, PAGE_SIZE))

    def pending_rule_changes(self, generation: Generation, meters: Iterable[Meter] | None = None) -> PinnedRules:
        """Return the rules over time of a generation, by event name, that differ from those of `meters`.

        `meters` are the present ones if None. A derived meter that the generation does not count has no rules in it.
        One that it counts and that isn't among `meters`, because it isn't configured, is included.
        """
        rules, current = self._rules_of(generation, self.ledger.meters() if meters is None else meters)
        return {event_name: pinned for event_name, pinned in rules.items() if pinned != current.get(event_name)}

    def catch_up(
        self,
        generation: Generation,
        progress: Callable[[Progress], None] | None = None,
        *,
        page_size: int = PAGE_SIZE,
        until: int | None = None,
    ) -> int:
        """Project into a generation up to the head, or up to the position `until`; return the position reached.

        Raises IncompatibleRules if the generation is under new rules that reject a recorded event; the generation is
        then dropped.
        """
        try:
            read_models = self.views.read_models(generation.number)
            projector = Projector(self.ledger, read_models, page_size, workers=WORKER_PROCESSES)
            return projector.catch_up(progress, until=until)
        except ProjectionStopped as stopped:
            error = incompatible_events_error(self.ledger, self.pending_rule_changes(generation), stopped)
            if error is None:
                raise
            self.views.drop(generation.number)
            raise error from stopped

    def _target_rules(self, rules: object, effective_from: datetime | None = None) -> dict[str, PinnedMeter]:
        """Return the rules over time of all meters, with the changes in `rules`.

        Raises InvalidParameter, InvalidEffectiveFrom or MeterNotFound.
        """
        if not isinstance(rules, Mapping):
            raise InvalidParameter(
                f"'rules' must map event names to changes of their rules, not {abbreviated_repr(rules)}.",
                field="rules",
                value=rules,
            )
        target_rules = {meter.event_name: PinnedMeter.of(meter) for meter in self.ledger.meters()}
        for event_name, changes in cast(Mapping[object, object], rules).items():
            name = require_event_name(event_name)
            target_rules[name] = rules_after_change(self.ledger.meter(name), changes, effective_from)
        return target_rules

    def _get_or_build(
        self,
        target_rules: PinnedRules,
        reusable_states: Collection[GenerationState],
        progress: Callable[[Progress], None] | None,
        page_size: int,
    ) -> Generation:
        """Return a generation under `target_rules`, up to date: the newest one in a reusable state, or a new one."""
        reusable, meters = None, list(self.ledger.meters())
        for generation in self.list():
            rules, _ = self._rules_of(generation, meters)
            if generation.state in reusable_states and rules == target_rules:
                reusable = generation
        if reusable is None:
            self._drop_oldest(self._numbers(_CANDIDATES), self._max_candidates - 1)
        generation = reusable or self.views.create(target_rules)
        self.catch_up(generation, progress, page_size=page_size)
        self.views.mark_ready(generation.number, self._revisions())
        return self.get(generation.number)

    def _revisions(self) -> dict[str, int]:
        return {meter.event_name: meter.revision for meter in self.ledger.meters()}

    def _rules_of(self, generation: Generation, meters: Iterable[Meter]) -> tuple[PinnedRules, PinnedRules]:
        """Return the rules over time of meters in a generation, and their present ones.

        In the generation they are pinned, or those that the meter was configured with; there are none of a derived
        meter that isn't pinned.
        """
        rules, current = dict(generation.pinned), dict[str, PinnedMeter]()
        for meter in meters:
            event_name = meter.event_name
            current[event_name] = PinnedMeter.of(meter)
            if event_name not in rules:
                is_counted = meter.source is None
                first = self.ledger.meter(event_name, version=1).schedule.distinct_parts if is_counted else ()
                rules[event_name] = PinnedMeter(first, meter.source)
        return rules, current
