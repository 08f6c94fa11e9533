"""Generations of the read models as callers see them: rebuild, compare, promote and drop them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from ...domain.meter import Meter
from ...domain.rules_schedule import ALWAYS, RulesPart, changes_between
from ...domain.timestamps import ensure_utc, from_microseconds
from ...projections.models import Generation
from ...projections.projector import Progress
from ..ledger.ledger import Ledger
from ..queries.comparison import GenerationComparison, GenerationDifference
from ..queries.dimension_query import Where
from ..read_models.generations import Generations
from ..results import GenerationView
from ..validation import optional_note, require_event_name, require_generation, require_text
from .rules import GenerationPromoter


class GenerationCommands:
    """The generations of the read models: `metering.generations`."""

    def __init__(
        self,
        ledger: Ledger,
        generations: Generations,
        promoter: GenerationPromoter,
        comparison: GenerationComparison,
    ) -> None:
        self._ledger = ledger
        self._generations = generations
        self._promoter = promoter
        self._comparison = comparison

    def rebuild(
        self,
        *,
        rules: Mapping[str, Mapping[str, object]] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> GenerationView:
        """Build a generation from the ledger while the live one continues to answer queries.

        `rules` maps event names to changed rules: some of the arguments of `meters.configure` that describe rules. An
        interrupted rebuild is resumed by the same call.

        Raises RebuildInProgress, IncompatibleRules or InvalidParameter.
        """
        return self._to_view(self._generations.rebuild(rules, progress))

    def build_candidate(
        self,
        event_name: str,
        rules: Mapping[str, object],
        *,
        effective_from: datetime | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> GenerationView:
        """Build a generation that counts a meter under other rules, to compare it before it is promoted.

        `rules` and `effective_from` are those of `rules.change`. An existing generation under these rules is returned.
        Of generations that were never live, the newest ten stay.

        Raises RebuildInProgress, IncompatibleRules, and InvalidParameter if the meter has these rules already.
        """
        event_name = require_event_name(event_name)
        effective_from = None if effective_from is None else ensure_utc(effective_from, "effective_from")
        return self._to_view(self._generations.build_candidate({event_name: rules}, effective_from, progress))

    def diff(
        self,
        generation: int,
        *,
        window: str = "month",
        timezone: str = "UTC",
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> GenerationDifference:
        """Return how the totals of a generation differ from the live one's, by meter, customer and `window`.

        `window` is minute, hour, day, month or year, in `timezone`. `where` and `group_by` name dimensions that a meter
        has in either generation; meters without them aren't compared. Raises GenerationNotFound or GenerationInUse.
        """
        return self._comparison.diff(generation, window, timezone, where, group_by)

    def promote(
        self, generation: int, *, reason: str | None = None, by: str | None = None, digest: str | None = None
    ) -> GenerationView:
        """Make a generation live. The previous one is retired; promote that one to go back. Three retired ones stay.

        With the `digest` of a difference, the generation is promoted only if its difference is still the same.

        If the generation was built under other rules than the current ones, the rules are changed first, and `reason`
        is required. Raises GenerationNotFound, GenerationInUse, RulesConflict, PreviewChanged or ApprovalRequired.
        """
        reason, by = optional_note(reason, "reason"), optional_note(by, "by")
        generation = require_generation(generation)
        if digest is not None:
            digest = require_text(digest, "digest", 500)
        with self._generations.views.generation_lock(f"promoting generation {generation}"):
            if digest is not None:
                self._comparison.require_same(generation, digest)
            self._promoter.promote(self._generations.get_built(generation), reason, by)
            promoted = self._generations.get(generation)
        return self._to_view(promoted)

    def drop(self, generation: int) -> None:
        """Delete a generation that is not live. Raises GenerationNotFound or GenerationInUse."""
        self._generations.drop(generation)

    def list(self) -> list[GenerationView]:
        """Return all generations in the order of their creation. One of them is live."""
        return [self._to_view(generation) for generation in self._generations.list()]

    def _to_view(self, generation: Generation) -> GenerationView:
        meters = {meter.event_name: meter for meter in self._ledger.meters()}
        changes = self._generations.pending_rule_changes(generation, meters.values())
        return GenerationView(
            generation.number,
            generation.state,
            generation.position,
            self._ledger.head(),
            {name: parts[-1].rules for name, (parts, _) in changes.items() if parts},
            {name: _changed_from(parts, meters.get(name)) for name, (parts, _) in changes.items() if parts},
        )


def _changed_from(parts: Sequence[RulesPart], meter: Meter | None) -> datetime | None:
    """Return the time of usage from which on other rules apply than those in force; None for all usage."""
    if meter is None:
        return None
    first = changes_between(meter.schedule.distinct_parts, parts)[0]
    return None if first.start == ALWAYS else from_microseconds(first.start)
