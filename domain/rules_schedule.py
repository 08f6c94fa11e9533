"""Rules over time: usage is counted under the rules that were in effect when it occurred.

Each change of the rules is a revision with the time of usage from which on it applies. It replaces all older revisions
from then on, so correcting all of the past and announcing rules for next month are the same mechanism.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from .errors import InvalidEffectiveFrom
from .event_time_window import round_up_to_window
from .rules import Rules
from .timestamps import MAX_DATETIME, MIN_DATETIME, from_microseconds, to_iso, to_microseconds

ALWAYS = to_microseconds(MIN_DATETIME)
"""The start of rules that apply to all of the past, in microseconds since 1970 UTC."""
ALL_TIME = ALWAYS, to_microseconds(MAX_DATETIME)
"""The range of all times, in microseconds since 1970 UTC."""


class RulesPart(NamedTuple):
    """Rules for usage that occurred at `start` or later, in microseconds since 1970 UTC, until the next part."""

    start: int
    rules: Rules


class EffectiveRules(NamedTuple):
    """A revision of rules for usage that occurred at `start` or later, until the next part of the schedule."""

    start: int
    revision: int
    rules: Rules


_START = itemgetter(0)


class RulesInRange(NamedTuple):
    """The revision of rules that applies to usage in [start, end)."""

    start: int
    end: int
    effective: EffectiveRules


@dataclass(frozen=True)
class RulesSchedule:
    """The rules of one meter over time: parts in order of time, the first of which starts at ALWAYS.

    The last part is the newest revision, because each change replaces all parts after it.
    """

    parts: tuple[EffectiveRules, ...]

    @classmethod
    def always(cls, rules: Rules, revision: int = 1) -> "RulesSchedule":
        """Return the schedule of rules that apply to all usage."""
        return cls((EffectiveRules(ALWAYS, revision, rules),))

    @classmethod
    def of_parts(cls, parts: Sequence[RulesPart], revision: int = 1) -> "RulesSchedule":
        """Return the schedule of parts that all have the same revision."""
        return cls(tuple(EffectiveRules(start, revision, rules) for start, rules in parts))

    def change(self, start: int, revision: int, rules: Rules) -> "RulesSchedule":
        """Return the schedule after a change of the rules for usage from `start` on."""
        earlier = self.parts[: bisect_left(self.parts, start, key=_START)]
        return RulesSchedule((*earlier, EffectiveRules(start, revision, rules)))

    @property
    def newest(self) -> EffectiveRules:
        """The newest revision, which may apply to future usage only."""
        return self.parts[-1]

    def at(self, occurred_at: int) -> EffectiveRules:
        """Return the revision that applies to usage at a time in microseconds."""
        return self.parts[max(bisect_right(self._starts, occurred_at) - 1, 0)]

    def between(self, start: int, end: int) -> Iterator[RulesInRange]:
        """Yield the revisions that apply to usage in [start, end), in order of time; nothing if the range is empty.

        Windows are cut by the range: see `whole_windows`.
        """
        ends = [*self._starts[1:], max(end, self._starts[-1])]
        for effective, part_end in zip(self.parts, ends, strict=True):
            first, last = max(start, effective.start), min(end, part_end)
            if effective is self.parts[0]:
                first = start
            if first < last:
                yield RulesInRange(first, last, effective)

    def whole_windows(self, start: int, end: int) -> Iterator[RulesInRange]:
        """Yield the revisions that apply to the windows that start in [start, end), with the range of these windows.

        A window belongs whole to the range that its start lies in. The last range may end after `end`, and after all
        datetimes.
        """
        for part_start, part_end, effective in self.between(start, end):
            window = effective.rules.event_time_window
            first, last = round_up_to_window(part_start, window), round_up_to_window(part_end, window)
            if first < last:
                yield RulesInRange(first, last, effective)

    def quantity_ranges(self, start: int, end: int) -> Iterator[RulesInRange]:
        """Yield the parts of the windows that start in [start, end) that each have a single quantity.

        Each has the last rules that apply to it. Usage under several revisions has a single quantity if their formula,
        multiplier and rounding are the same.
        """
        return _merge_same_quantity(self.whole_windows(start, end))

    def exact_quantity_ranges(self, start: int, end: int) -> Iterator[RulesInRange]:
        """Yield the parts of [start, end) that each have a single quantity. Windows are cut by the range."""
        return _merge_same_quantity(self.between(start, end))

    @cached_property
    def distinct_parts(self) -> tuple[RulesPart, ...]:
        """The parts without their revisions; neighbours with the same rules are one part."""
        return _merge_same_rules((start, rules) for start, _, rules in self.parts)

    def has_same_rules(self, other: "RulesSchedule", start: int, end: int) -> bool:
        """Return whether usage in [start, end) counts under the same rules in both, whatever their revisions."""
        mine, others = (
            _merge_same_rules((part.start, part.effective.rules) for part in schedule.between(start, end))
            for schedule in (self, other)
        )
        return mine == others

    @cached_property
    def _starts(self) -> list[int]:
        return [part.start for part in self.parts]


def _merge_same_rules(parts: Iterable[tuple[int, Rules]]) -> tuple[RulesPart, ...]:
    merged: list[RulesPart] = []
    for start, rules in parts:
        if not merged or merged[-1].rules != rules:
            merged.append(RulesPart(start, rules))
    return tuple(merged)


def _merge_same_quantity(parts: Iterable[RulesInRange]) -> Iterator[RulesInRange]:
    pending: RulesInRange | None = None
    for part in parts:
        if pending is not None and pending.effective.rules.has_same_quantity(part.effective.rules):
            pending = RulesInRange(pending.start, part.end, part.effective)
            continue
        if pending is not None:
            yield pending
        pending = part
    if pending is not None:
        yield pending


def bound_to_datetime(bound: int) -> datetime:
    """Return the start or end of the range of whole windows as a datetime: the largest one if it is after that."""
    return from_microseconds(min(bound, ALL_TIME[1]))


def check_effective_from(schedule: RulesSchedule, start: int, rules: Rules) -> None:
    """Raise InvalidEffectiveFrom if an event time window of the old or the new rules contains `start` in its midst."""
    if start == ALWAYS:
        return
    for changed in (schedule.at(start - 1).rules, rules):
        window = changed.event_time_window
        if window is not None and start % window.microseconds:
            effective_from = from_microseconds(start)
            raise InvalidEffectiveFrom(
                f"Rules with a window of a UTC {window} can change at the start of a UTC {window} only, not at "
                f"{to_iso(effective_from)}.",
                field="effective_from",
                value=effective_from,
            )


def changes_between(current: Sequence[RulesPart], target: Sequence[RulesPart]) -> list[RulesPart]:
    """Return the changes, in their order, that turn the rules over time `current` into `target`."""
    same = 0
    while same < min(len(current), len(target)) and current[same] == target[same]:
        same += 1
    changes = list(target[same:])
    if same < len(current) and (not changes or current[same].start < changes[0].start):
        changes.insert(0, target[same - 1])  # the rules before go on for longer than in `current`
    return changes
