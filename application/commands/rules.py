"""Rule changes: count a meter under other rules, by promoting a generation that was built under them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from eventsourcing.persistence import IntegrityError

from ...domain.approval_policy import ChangeKind
from ...domain.errors import InvalidParameter, RulesConflict
from ...domain.meter import Meter
from ...domain.rules_schedule import ALWAYS, RulesPart, changes_between
from ...domain.timestamps import ensure_utc, from_microseconds, to_microseconds
from ...projections.models import Generation, GenerationState, PinnedMeter, PinnedRules
from ...projections.projector import Progress
from ..approvals.gate import ApprovalGate
from ..ledger.ledger import Ledger
from ..meter_views import MeterView
from ..read_models.generations import Generations, rules_after_change
from ..read_models.rule_compatibility import are_compatible
from ..storage.ports import ConcurrentStreamUpdate
from ..validation import optional_note, require_event_name, require_text


class RuleCommands:
    """Changes of the rules of meters: `metering.rules`."""

    def __init__(self, ledger: Ledger, generations: Generations, promoter: "GenerationPromoter") -> None:
        self._ledger = ledger
        self._generations = generations
        self._promoter = promoter

    def change(
        self,
        event_name: str,
        rules: Mapping[str, object],
        *,
        reason: str,
        by: str | None = None,
        effective_from: datetime | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> MeterView:
        """Change the rules of a meter for usage from `effective_from` on; return the meter.

        Without `effective_from` the change applies to all usage, also of the past; closed periods keep their totals.
        Later changes that were announced are replaced. The time must be the start of an event time window of the old
        and the new rules, such as midnight in UTC.

        `rules` maps some of the arguments of `meters.configure` that describe rules to their new values. The others are
        those of `effective_from`; one that changes later has to be given too.
        To see the difference first, build a candidate with these rules, `diff` it, and `promote` it.

        Raises InvalidEffectiveFrom, IncompatibleRules with the meter events that the new rules reject, or
        ApprovalRequired; nothing is changed then.
        """
        event_name = require_event_name(event_name)
        reason, by = require_text(reason, "reason", 500), optional_note(by, "by")
        effective_from = None if effective_from is None else ensure_utc(effective_from, "effective_from")
        self._promoter.gate.permit(ChangeKind.RULES)  # before a candidate is built
        with self._generations.views.generation_lock("changing rules"):
            candidate = self._generations.get_or_build_candidate({event_name: rules}, effective_from, progress)
            self._promoter.promote(candidate, reason, by, effective_from)
        return MeterView.from_aggregate(self._ledger.meter(event_name), self._promoter.now())

    def are_in_force(
        self, event_name: str, rules: Mapping[str, object], *, effective_from: datetime | None = None
    ) -> bool:
        """Return whether such a change would change nothing. Raises InvalidParameter or InvalidEffectiveFrom."""
        meter = self._ledger.meter(require_event_name(event_name))
        effective_from = None if effective_from is None else ensure_utc(effective_from, "effective_from")
        return rules_after_change(meter, rules, effective_from) == PinnedMeter.of(meter)


class GenerationPromoter:
    """Makes generations live, and the rules that they were built under current. The caller has the generation lock."""

    def __init__(
        self, ledger: Ledger, generations: Generations, gate: ApprovalGate, clock: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._generations = generations
        self.gate = gate
        self._clock = clock

    def now(self) -> datetime:
        """Return the present time."""
        return ensure_utc(self._clock(), "clock")

    def promote(
        self, generation: Generation, reason: str | None, by: str | None, effective_from: datetime | None = None
    ) -> None:
        """Make a generation live; do nothing if it is. Raises InvalidParameter without a reason, or RulesConflict.

        `effective_from` is stored with a change of rules that applies from then on. Without it, it is the time from
        which on the generation differs.
        """
        if generation.state is GenerationState.LIVE:
            return
        self._put_rules_in_force(generation, reason, by, effective_from)
        self._generations.catch_up(generation)
        self._generations.make_live(generation)

    def _put_rules_in_force(
        self, generation: Generation, reason: str | None, by: str | None, effective_from: datetime | None
    ) -> None:
        """Change the rules of meters to those of a generation.

        The events are appended while no other process can append, so that no event is recorded that the new rules
        reject. In that transaction only the events recorded since the generation was brought up to date are read, and
        no read models are used: a process that has them locked may be waiting for the ledger.
        """
        while changed_rules := self._generations.pending_rule_changes(generation):
            _check_derived_meters(generation, changed_rules, self._ledger)
            if reason is None:
                raise InvalidParameter(
                    f"Promoting generation {generation.number} changes the rules of "
                    f"{', '.join(map(repr, changed_rules))}; give a reason, which is recorded in the ledger.",
                    field="reason",
                )
            permission = self.gate.permit(ChangeKind.RULES)
            meters = {event_name: self._ledger.meter(event_name) for event_name in changed_rules}
            _check_revisions(generation, meters)
            position = self._generations.catch_up(generation)
            first_events = permission.first_events()
            try:
                with self._ledger.exclusive() as ledger:
                    if not are_compatible(changed_rules, ledger, after=position):
                        continue  # the next catch_up stops at the event and raises IncompatibleRules
                    ledger.append(first_events, permission.versions)
                    for event_name, meter in meters.items():
                        for start, rules in _changes(meter, changed_rules[event_name].parts, effective_from):
                            changed_from = None if start == ALWAYS else from_microseconds(start)
                            meter.change_rules(rules, reason=reason, by=by, at=self.now(), effective_from=changed_from)
                        ledger.append(meter.collect_events())
            except (IntegrityError, ConcurrentStreamUpdate):
                continue  # another process changed a meter, or the approval policy, meanwhile


def _changes(meter: Meter, target: Sequence[RulesPart], effective_from: datetime | None) -> Sequence[RulesPart]:
    """Return the changes that lead to the rules over time `target`: one from `effective_from` on, if that suffices."""
    if effective_from is not None:
        start, rules = to_microseconds(effective_from), target[-1].rules
        if meter.schedule.change(start, 0, rules).distinct_parts == target:
            return (RulesPart(start, rules),)
    return changes_between(meter.schedule.distinct_parts, target)


def _check_derived_meters(generation: Generation, changed_rules: PinnedRules, ledger: Ledger) -> None:
    """Raise RulesConflict unless a generation counts exactly the derived meters that are configured."""
    configured = {meter.event_name for meter in ledger.meters()}
    for event_name, (parts, _) in changed_rules.items():
        if not parts or event_name not in configured:
            reason = (
                "counts it, but it isn't configured. Configure it, or drop the generation"
                if parts
                else "was built before it was configured, and lacks its usage. Build a new generation"
            )
            raise RulesConflict(
                f"The meter {event_name!r} is derived, and generation {generation.number} {reason}.",
                field="generation",
                value=generation.number,
            )


def _check_revisions(generation: Generation, meters: Mapping[str, Meter]) -> None:
    """Raise RulesConflict if the rules of a meter were changed after the generation was built or retired."""
    for event_name, meter in meters.items():
        if generation.revisions.get(event_name) != meter.revision:
            raise RulesConflict(
                f"Generation {generation.number} was built before revision {meter.revision} of the rules of "
                f"{event_name!r}, and promoting it would undo that. Build a new candidate.",
                field="generation",
                value=generation.number,
            )
