"""Generations of the read models: built beside the live one, compared with it, and promoted."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from eventsourcing.persistence import IntegrityError

from ..domain.errors import GenerationInUse, InvalidParameter, NoGeneration, ProjectionStopped
from ..domain.instants import in_utc
from ..domain.meter import Meter
from ..domain.rules import Rules
from ..projections.generations import Generation, GenerationState
from ..projections.projector import PAGE_SIZE, Progress, Projector
from .arguments import note, number, text
from .ledger import Ledger
from .rule_arguments import changed
from .stores.sqlite_views import SQLiteViews
from .unreadable import can_read, unreadable_uses

RuleChanges = Mapping[str, Mapping[str, object]]
"""By event name, some fields of the rules and what they become."""

FOLLOWING_WAITS_SECONDS = 600

_log = logging.getLogger("tallybook")


class Generations:
    """Builds generations and makes them answer. One at a time works on them; the live one serves meanwhile."""

    def __init__(self, ledger: Ledger, views: SQLiteViews, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.views = views
        self.clock = clock

    def all(self) -> list[Generation]:
        """All generations, in the order that they were begun in."""
        return self.views.generations()

    def one(self, generation: int) -> Generation:
        """One generation. Raises NoGeneration."""
        number(generation, "generation", 1, 2**63 - 1)
        for one in self.all():
            if one.number == generation:
                return one
        raise NoGeneration(
            f"There is no generation {generation} of the read models.", field="generation", value=generation
        )

    def built(self, generation: int) -> Generation:
        """One generation that is built to the end. Raises NoGeneration or GenerationInUse."""
        found = self.one(generation)
        if found.state is GenerationState.BUILDING:
            raise GenerationInUse(
                f"Generation {generation} isn't built to the end; rebuild goes on with it.",
                field="generation",
                value=generation,
            )
        return found

    def rebuild(
        self, rules: RuleChanges | None, progress: Callable[[Progress], None] | None, page_size: int = PAGE_SIZE
    ) -> Generation:
        """Build a generation from the ledger, or go on with one under the same rules that was interrupted."""
        candidate = self._candidate(rules or {})
        with self.views.alone("rebuilding"):
            return self._built(candidate, {GenerationState.BUILDING}, progress, page_size)

    def candidate(self, rules: RuleChanges, progress: Callable[[Progress], None] | None) -> Generation:
        """A generation under changed rules: one that stands ready, or built now."""
        candidate = self._candidate(rules)
        if all(candidate[event_name] == self.ledger.meter(event_name).rules for event_name in rules):
            raise InvalidParameter(
                f"Nothing changes: {', '.join(map(repr, rules))} counts by these rules already.", field="rules"
            )
        with self.views.alone("building a candidate"):
            usable = {GenerationState.BUILDING, GenerationState.READY, GenerationState.RETIRED}
            return self._built(candidate, usable, progress, PAGE_SIZE)

    def promote(self, generation: int, reason: str | None, by: str | None) -> Generation:
        """Let a generation answer. The rules it differs in are put in force first, with the reason."""
        given, asker = note(reason, "reason"), note(by, "by")
        with self.views.alone(f"promoting generation {generation}"):
            promoted = self.built(generation)
            if promoted.state is not GenerationState.LIVE:
                self._put_in_force(promoted, given, asker)
                self.bring_up(promoted)
                self.views.make_live(generation)
            return self.one(generation)

    def drop(self, generation: int) -> None:
        """Do away with a generation. Raises GenerationInUse for the live one."""
        with self.views.alone(f"dropping generation {generation}"):
            if self.one(generation).state is GenerationState.LIVE:
                raise GenerationInUse(
                    f"Generation {generation} is live; promote another one first.", field="generation", value=generation
                )
            self.views.drop(generation)

    def follow_rules(self) -> None:
        """Let a generation answer that is under the rules in force.

        They are not those of the live one while another is being promoted, which is waited for, or where that was cut
        off, which is then brought to its end.
        """
        with self.views.alone("following changed rules", wait_seconds=FOLLOWING_WAITS_SECONDS):
            live = next(one for one in self.all() if one.state is GenerationState.LIVE)
            if self.rule_changes(live):
                _log.warning("The rules in force are not those of the live read models; others are made live.")
                usable = {GenerationState.BUILDING, GenerationState.READY, GenerationState.RETIRED}
                followed = self._built(self._candidate({}), usable, None, PAGE_SIZE)
                self.views.make_live(followed.number)

    def rule_changes(self, generation: Generation) -> dict[str, Rules]:
        """The rules of a generation, by event name, that are not those in force."""
        return {
            meter.event_name: rules
            for meter in self._meters()
            if (rules := self._rules_of(generation, meter)) != meter.rules
        }

    def _meters(self) -> list[Meter]:
        return [self.ledger.meter(event_name) for event_name in self.ledger.meter_names()]

    def _candidate(self, rules: RuleChanges) -> dict[str, Rules]:
        """The rules of all meters, some of them changed."""
        wanted = {meter.event_name: meter.rules for meter in self._meters()}
        for event_name, changes in rules.items():
            present = self.ledger.meter(text(event_name, "event_name", 100)).rules
            wanted[event_name] = changed(present, changes)
        return wanted

    def _rules_of(self, generation: Generation, meter: Meter) -> Rules:
        return generation.pinned.get(meter.event_name) or self.ledger.meter(meter.event_name, version=1).rules

    def _built(
        self,
        wanted: Mapping[str, Rules],
        usable: set[GenerationState],
        progress: Callable[[Progress], None] | None,
        page_size: int,
    ) -> Generation:
        """A generation under the rules that are wanted, folded to the head: a usable one, or a new one."""
        found = None
        for one in self.all():
            rules = {meter.event_name: self._rules_of(one, meter) for meter in self._meters()}
            if one.state in usable and rules == wanted:
                found = one
        generation = found or self.views.begin(wanted)
        self.bring_up(generation, progress, page_size=page_size)
        self.views.set_ready(generation.number)
        return self.one(generation.number)

    def bring_up(
        self,
        generation: Generation,
        progress: Callable[[Progress], None] | None = None,
        *,
        page_size: int = PAGE_SIZE,
        until: int | None = None,
    ) -> int:
        """Fold into a generation all that it lacks, or all up to the position `until`; give the position reached.

        Raises RulesCannotRead where it is under new rules that can't read what is recorded: no generation is left then.
        """
        try:
            return Projector(self.ledger, self.views.of(generation.number), page_size).catch_up(progress, until=until)
        except ProjectionStopped as stopped:
            refusal = unreadable_uses(self.ledger, self.rule_changes(generation), stopped)
            if refusal is None:
                raise
            self.views.drop(generation.number)
            raise refusal from stopped

    def _put_in_force(self, generation: Generation, reason: str | None, by: str | None) -> None:
        """Change the rules of meters to those of a generation, while nothing is recorded that these couldn't read.

        The ledger is held only to read what was recorded since the generation was brought up, and no read models are
        touched meanwhile: who reads them may be waiting for the ledger.
        """
        while rules := self.rule_changes(generation):
            if reason is None:
                raise InvalidParameter(
                    f"Promoting generation {generation.number} changes the rules of {', '.join(map(repr, rules))}; "
                    "give a reason, which the ledger keeps.",
                    field="reason",
                )
            position = self.bring_up(generation)
            meters = {event_name: self.ledger.meter(event_name) for event_name in rules}
            try:
                with self.ledger.alone() as ledger:
                    if not can_read(rules, ledger, after=position):
                        continue  # which bringing the generation up will tell
                    for event_name, meter in meters.items():
                        meter.change_rules(rules[event_name], reason=reason, by=by, at=in_utc(self.clock(), "clock"))
                        ledger.append(meter.collect_events())
            except IntegrityError:
                continue  # a meter was renamed or put to rest meanwhile
