"""The view of a meter's usage under given rules over time, from what the read models have folded."""

from collections.abc import Collection, Iterator, Sequence

from ...domain.event_time_window import round_up_to_window
from ...domain.rules import Rules
from ...domain.rules_schedule import RulesInRange, RulesSchedule
from ...projections.concatenated_usage import ConcatenatedUsage
from ...projections.models import AsOf, FoldedRules, ProjectedMeter
from ...projections.ports import ReadModelReader
from ...projections.reparsed_usage import LocalCustomers, PayloadLoader, ReparsedUsage
from ...projections.selected_usage import select_usage
from ...projections.usage_source import ProjectedUsage, UsageSource, counts_same_records
from ...projections.usage_view import UsageView, ViewPart
from .dimension_query import NO_DIMENSIONS, DimensionArguments, resolve_dimensions


class ViewFactory:
    """Creates views of one meter in a read session. Payloads are parsed again if it was folded under other rules."""

    def __init__(self, read_models: ReadModelReader, meter: ProjectedMeter, load_payloads: PayloadLoader) -> None:
        self._read_models = read_models
        self._meter = meter
        self._load_payloads = load_payloads
        self._customers = LocalCustomers(read_models)

    def schedule(self, as_of: AsOf) -> RulesSchedule:
        """Return the rules over time as known as of a point in the ledger."""
        return self._meter.schedule(as_of)

    def schedule_of_revision(self, revision: int) -> RulesSchedule:
        """Return the rules over time when a revision was the newest."""
        return self._meter.schedule_of_revision(revision)

    @property
    def has_windows(self) -> bool:
        """Whether any revision of the rules has event time windows, so that usage counts outside of its range."""
        return any(revision.rules.event_time_window is not None for revision in self._meter.history)

    @property
    def has_changed_rules(self) -> bool:
        """Whether there is more than one revision of the rules."""
        return len(self._meter.history) > 1

    @property
    def all_dimension_keys(self) -> frozenset[str]:
        """The dimension keys of all revisions of the rules."""
        return frozenset(key for revision in self._meter.history for key in revision.rules.all_dimension_keys)

    def view(
        self,
        schedule: RulesSchedule,
        start: int,
        end: int,
        dimensions: DimensionArguments = NO_DIMENSIONS,
        other_keys: Collection[str] = (),
    ) -> UsageView:
        """Return the usage in the windows that start in [start, end), with the selected dimension values.

        It is counted under rules over time. `dimensions` name dimensions of any of these rules, or `other_keys`. Raises
        InvalidParameter.
        """
        return self._view(list(schedule.whole_windows(start, end)) or [_empty(schedule, start)], dimensions, other_keys)

    def exact_view(
        self,
        schedule: RulesSchedule,
        start: int,
        end: int,
        dimensions: DimensionArguments = NO_DIMENSIONS,
        other_keys: Collection[str] = (),
    ) -> UsageView:
        """Return the usage that occurred in [start, end), also in a part of a window: that of a closed period.

        The arguments are those of `view`.
        """
        return self._view(list(schedule.between(start, end)) or [_empty(schedule, start)], dimensions, other_keys)

    def _view(
        self, in_range: Sequence[RulesInRange], dimensions: DimensionArguments, other_keys: Collection[str]
    ) -> UsageView:
        keys = (*(key for _, _, effective in in_range for key in effective.rules.all_dimension_keys), *other_keys)
        parts: list[ViewPart] = []
        for rules_in_range in in_range:
            rules, revision = rules_in_range.effective.rules, rules_in_range.effective.revision
            selected, groups = resolve_dimensions(rules, dimensions, keys)
            for part_start, part_end, source in self._sources(rules, rules_in_range):
                parts.append(ViewPart(part_start, part_end, select_usage(source, selected), groups, revision))
        return UsageView(parts, self._customers.names)

    def first_customers(self, limit: int) -> list[str]:
        """Return the names of up to `limit` customers with usage of the meter, those with the lowest ids."""
        reader, last_part = self._read_models, self._meter.folded[-1]
        return list(reader.customer_names(reader.customers_after(last_part.meter_id, 0, limit)).values())

    def _sources(self, rules: Rules, in_range: RulesInRange) -> Iterator[tuple[int, int, UsageSource]]:
        """Yield the usage in a range under one revision of the rules, as parts of it or as a whole."""
        overlapping = list(self._folded_between(in_range.start, in_range.end))
        if all(counts_same_records(folded.rules, rules) for _, _, folded in overlapping):
            for start, end, folded in overlapping:
                yield start, end, ProjectedUsage(self._read_models, folded, rules)
            return
        sources = [self._reparsed(folded, rules) for folded in self._meter.folded]
        yield in_range.start, in_range.end, sources[0] if len(sources) == 1 else ConcatenatedUsage(rules, sources)

    def _reparsed(self, folded: FoldedRules, rules: Rules) -> UsageSource:
        if counts_same_records(folded.rules, rules):
            return ProjectedUsage(self._read_models, folded, rules)
        projected = ProjectedUsage(self._read_models, folded)
        return ReparsedUsage(projected, rules, self._load_payloads, self._customers)

    def _folded_between(self, start: int, end: int) -> Iterator[tuple[int, int, FoldedRules]]:
        """Yield the folded parts that overlap [start, end), clipped to it; the one at `start` if the range is empty."""
        folded = self._meter.folded
        ends = [part.start for part in folded[1:]] + [max(end, folded[-1].start) + 1]
        for index, (part, part_end) in enumerate(zip(folded, ends, strict=True)):
            first, last = (start if index == 0 else max(start, part.start)), min(end, part_end)
            if first < last or (start == end and first == start and start < part_end):
                yield first, last, part


def _empty(schedule: RulesSchedule, start: int) -> RulesInRange:
    """Return the empty range of the windows that start in a range from `start` on, if there are none."""
    effective = schedule.at(start)
    at = round_up_to_window(start, effective.rules.event_time_window)
    return RulesInRange(at, at, effective)
