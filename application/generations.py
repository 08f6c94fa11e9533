"""Generations of the read models: built beside the live one, compared with it, and promoted."""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import cast

from eventsourcing.persistence import IntegrityError

from ..domain.errors import GenerationInUse, InvalidParameter, NoGeneration, ProjectionStopped, RulesMovedOn
from ..domain.instants import in_utc
from ..domain.meter import Meter
from ..domain.rules import Rules
from ..domain.texts import shown
from ..projections.generations import Generation, GenerationState
from ..projections.projector import PAGE_SIZE, Progress, Projector
from .arguments import note, number, text
from .ledger import Ledger
from .rule_arguments import changed
from .stores.store import GenerationViews
from .unreadable import can_read, unreadable_uses

RuleChanges = Mapping[str, Mapping[str, object]]
"""By event name, some fields of the rules and what they become."""

FOLLOWING_WAITS_SECONDS = 600
_USABLE = frozenset({GenerationState.BUILDING, GenerationState.READY, GenerationState.RETIRED})

_log = logging.getLogger("tallybook")


class Generations:
    """Builds generations and makes them answer. One at a time works on them; the live one serves meanwhile."""

    def __init__(self, ledger: Ledger, views: GenerationViews, clock: Callable[[], datetime]) -> None:
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
        with self.views.alone("rebuilding"):
            return self._built(self._wanted(rules or {}), {GenerationState.BUILDING}, progress, page_size)

    def candidate(self, rules: RuleChanges, progress: Callable[[Progress], None] | None) -> Generation:
        """A generation under changed rules: one that is there, or built now."""
        with self.views.alone("building a candidate"):
            return self._candidate(rules, progress)

    def change_rules(
        self, rules: RuleChanges, reason: str, by: str | None, progress: Callable[[Progress], None] | None
    ) -> None:
        """Let a generation under changed rules answer; nobody else changes any in between."""
        given, asker = text(reason, "reason", 500), note(by, "by")
        with self.views.alone("changing rules"):
            self._promote(self._candidate(rules, progress), given, asker)

    def promote(self, generation: int, reason: str | None, by: str | None) -> Generation:
        """Let a generation answer. The rules it was built to change are put in force first, with the reason."""
        given, asker = note(reason, "reason"), note(by, "by")
        with self.views.alone(f"promoting generation {generation}"):
            self._promote(self.built(generation), given, asker)
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
                followed = self._built(self._wanted({}), _USABLE, None, PAGE_SIZE)
                self.views.make_live(followed.number, self._revisions())

    def rule_changes(self, generation: Generation) -> dict[str, Rules]:
        """The rules of a generation, by event name, that are not those in force."""
        return {
            meter.event_name: rules
            for meter in self.ledger.meters()
            if (rules := self._rules_of(generation, meter)) != meter.rules
        }

    def _wanted(self, rules: object) -> dict[str, Rules]:
        """The rules of all meters, some of them changed."""
        if not isinstance(rules, Mapping):
            raise InvalidParameter(
                f"'rules' must map event names to changes of their rules, not {shown(rules)}.",
                field="rules",
                value=rules,
            )
        wanted = {meter.event_name: meter.rules for meter in self.ledger.meters()}
        for event_name, changes in cast(Mapping[object, object], rules).items():
            name = text(event_name, "event_name", 100)
            wanted[name] = changed(self.ledger.meter(name).rules, changes)
        return wanted

    def _candidate(self, rules: RuleChanges, progress: Callable[[Progress], None] | None) -> Generation:
        wanted = self._wanted(rules)
        if all(wanted[event_name] == self.ledger.meter(event_name).rules for event_name in rules):
            raise InvalidParameter(
                f"Nothing changes: {', '.join(map(repr, rules))} counts by these rules already.", field="rules"
            )
        return self._built(wanted, _USABLE, progress, PAGE_SIZE)

    def _promote(self, generation: Generation, reason: str | None, by: str | None) -> None:
        if generation.state is GenerationState.LIVE:
            return
        self._put_in_force(generation, reason, by)
        self.bring_up(generation)
        self.views.make_live(generation.number, self._revisions())

    def _revisions(self) -> dict[str, int]:
        return {meter.event_name: meter.revision for meter in self.ledger.meters()}

    def _rules_of(self, generation: Generation, meter: Meter) -> Rules:
        return generation.pinned.get(meter.event_name) or self.ledger.meter(meter.event_name, version=1).rules

    def _built(
        self,
        wanted: Mapping[str, Rules],
        usable: Collection[GenerationState],
        progress: Callable[[Progress], None] | None,
        page_size: int,
    ) -> Generation:
        """A generation under the rules that are wanted, folded to the head: a usable one, or a new one."""
        found, meters = None, list(self.ledger.meters())
        for one in self.all():
            rules = {meter.event_name: self._rules_of(one, meter) for meter in meters}
            if one.state in usable and rules == wanted:
                found = one
        generation = found or self.views.begin(wanted)
        self.bring_up(generation, progress, page_size=page_size)
        self.views.set_ready(generation.number, self._revisions())
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
            meters = {event_name: self.ledger.meter(event_name) for event_name in rules}
            _check_revisions(generation, meters)
            position = self.bring_up(generation)
            try:
                with self.ledger.alone() as ledger:
                    if not can_read(rules, ledger, after=position):
                        continue  # which bringing the generation up will tell
                    for event_name, meter in meters.items():
                        meter.change_rules(rules[event_name], reason=reason, by=by, at=in_utc(self.clock(), "clock"))
                        ledger.append(meter.collect_events())
            except IntegrityError:
                continue  # a meter was renamed or put to rest meanwhile


def _check_revisions(generation: Generation, meters: Mapping[str, Meter]) -> None:
    """Refuse to change the rules of a meter that were changed since the generation was built, or retired."""
    for event_name, meter in meters.items():
        if generation.revisions.get(event_name) != meter.revision:
            raise RulesMovedOn(
                f"Generation {generation.number} doesn't know revision {meter.revision} of the rules of "
                f"{event_name!r}, and promoting it would undo that. Build a candidate anew.",
                field="generation",
                value=generation.number,
            )
