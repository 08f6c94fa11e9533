"""Rules over time: which revision applies to usage of a time, and what a change replaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.errors import InvalidEffectiveFrom
from tallybook.domain.event_time_window import EventTimeWindow
from tallybook.domain.formulas import Formula
from tallybook.domain.rules import Rules
from tallybook.domain.rules_schedule import (
    ALL_TIME,
    ALWAYS,
    RulesPart,
    RulesSchedule,
    changes_between,
    check_effective_from,
)

SUM, COUNT, MAX = (Rules(formula=formula) for formula in (Formula.SUM, Formula.COUNT, Formula.MAX))
SUM_OF_BYTES = Rules(value_key="bytes")
HOUR, DAY = 3_600_000_000, 86_400_000_000


def schedule(*changes: tuple[int, Rules]) -> RulesSchedule:
    """Return the schedule of rules that are configured as sums, and changed in this order."""
    result = RulesSchedule.always(SUM)
    for revision, (start, rules) in enumerate(changes, start=2):
        result = result.change(start, revision, rules)
    return result


@pytest.mark.parametrize(
    ("changes", "revisions"),
    [
        ((), [(ALWAYS, 1)]),
        (((100, COUNT),), [(ALWAYS, 1), (100, 2)]),
        (((100, COUNT), (200, MAX)), [(ALWAYS, 1), (100, 2), (200, 3)]),
        (((200, COUNT), (100, MAX)), [(ALWAYS, 1), (100, 3)]),
        (((100, COUNT), (100, MAX)), [(ALWAYS, 1), (100, 3)]),
        (((100, COUNT), (ALWAYS, MAX)), [(ALWAYS, 3)]),
    ],
)
def test_a_change_replaces_all_later_parts(
    changes: tuple[tuple[int, Rules], ...], revisions: list[tuple[int, int]]
) -> None:
    """The newest revision is the last part."""
    result = schedule(*changes)
    assert [(part.start, part.revision) for part in result.parts] == revisions
    assert result.newest.revision == len(changes) + 1


@pytest.mark.parametrize(("at", "revision"), [(ALWAYS, 1), (0, 1), (99, 1), (100, 2), (199, 2), (200, 3), (10**15, 3)])
def test_the_revision_at_a_time(at: int, revision: int) -> None:
    """A part includes its start."""
    assert schedule((100, COUNT), (200, MAX)).at(at).revision == revision


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 50, [(0, 50, 1)]),
        (50, 100, [(50, 100, 1)]),
        (50, 101, [(50, 100, 1), (100, 101, 2)]),
        (100, 200, [(100, 200, 2)]),
        (150, 900, [(150, 200, 2), (200, 900, 3)]),
        (*ALL_TIME, [(ALWAYS, 100, 1), (100, 200, 2), (200, ALL_TIME[1], 3)]),
        (100, 100, []),
    ],
)
def test_the_revisions_in_a_range(start: int, end: int, expected: list[tuple[int, int, int]]) -> None:
    """They tile the range; an empty range has none."""
    in_range = schedule((100, COUNT), (200, MAX)).between(start, end)
    assert [(part.start, part.end, part.effective.revision) for part in in_range] == expected


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.sampled_from([SUM, COUNT, MAX])), max_size=4),
    st.integers(-7, 7),
    st.integers(-7, 7),
)
def test_the_revision_in_a_range_is_that_at_each_time(
    changes: list[tuple[int, Rules]], start: int, length: int
) -> None:
    """Both name the newest revision that is in effect."""
    result = schedule(*changes)
    revisions = [(ALWAYS, 1), *((at, number) for number, (at, _) in enumerate(changes, start=2))]
    for part in result.between(start, start + length):
        for at in range(part.start, part.end):
            newest = max(revision for since, revision in revisions if since <= at)
            assert part.effective.revision == result.at(at).revision == newest


def test_ranges_with_a_single_quantity() -> None:
    """Another payload key adds up; another formula, multiplier or rounding doesn't."""
    ranges = schedule((100, SUM_OF_BYTES), (200, COUNT), (300, MAX)).quantity_ranges(0, 1_000)
    assert [(part.start, part.end, part.effective.revision) for part in ranges] == [
        (0, 200, 2), (200, 300, 3), (300, 1_000, 4),
    ]  # fmt: skip


def test_neighbours_with_the_same_rules_are_one_part() -> None:
    """So going back to earlier rules finds the generation that was built under them."""
    assert schedule((100, COUNT), (100, SUM)).distinct_parts == schedule().distinct_parts == (RulesPart(ALWAYS, SUM),)


@pytest.mark.parametrize(
    ("other", "bounds", "is_same"),
    [
        (schedule((100, COUNT)), (0, 200), True),
        (schedule((50, MAX), (50, SUM), (100, COUNT), (150, COUNT)), (0, 200), True),
        (schedule((100, COUNT), (200, MAX)), (0, 200), True),
        (schedule((100, COUNT), (199, MAX)), (0, 200), False),
        (schedule((101, COUNT)), (0, 200), False),
        (schedule((101, COUNT)), (0, 100), True),
        (schedule((-1, COUNT)), (0, 200), False),
        (schedule((-1, COUNT)), (100, 200), True),
    ],
)
def test_the_rules_of_a_range_are_the_same_part_by_part(
    other: RulesSchedule, bounds: tuple[int, int], is_same: bool
) -> None:
    """Whatever revisions they are of, and whatever applies outside of the range."""
    assert schedule((100, COUNT)).has_same_rules(other, *bounds) == is_same
    assert other.has_same_rules(schedule((100, COUNT)), *bounds) == is_same


@given(*[st.lists(st.tuples(st.integers(0, 4), st.sampled_from([SUM, COUNT, MAX])), max_size=4)] * 2)
def test_the_changes_between_two_schedules_lead_from_one_to_the_other(
    current: list[tuple[int, Rules]], target: list[tuple[int, Rules]]
) -> None:
    """There are none if both have the same rules at all times."""
    result, wanted = schedule(*current), schedule(*target).distinct_parts
    changes = changes_between(result.distinct_parts, wanted)
    assert bool(changes) == (result.distinct_parts != wanted)
    for start, rules in changes:
        result = result.change(start, 9, rules)
    assert result.distinct_parts == wanted


@pytest.mark.parametrize(
    ("old", "new", "at", "is_valid"),
    [
        (None, None, 17, True),
        (None, EventTimeWindow.HOUR, HOUR, True),
        (None, EventTimeWindow.HOUR, HOUR + 1, False),
        (EventTimeWindow.HOUR, None, HOUR + 1, False),
        (EventTimeWindow.HOUR, EventTimeWindow.DAY, HOUR, False),
        (EventTimeWindow.DAY, EventTimeWindow.HOUR, 5 * HOUR, False),
        (EventTimeWindow.DAY, EventTimeWindow.HOUR, 2 * DAY, True),
        (EventTimeWindow.DAY, EventTimeWindow.DAY, ALWAYS, True),
    ],
)
def test_rules_change_between_windows(
    old: EventTimeWindow | None, new: EventTimeWindow | None, at: int, is_valid: bool
) -> None:
    """At the start of a window of the old rules, which are those just before it, and of the new ones."""
    current = schedule((0, Rules(event_time_window=old)))
    if is_valid:
        check_effective_from(current, at, Rules(event_time_window=new))
        return
    with pytest.raises(InvalidEffectiveFrom, match="at the start of a UTC"):
        check_effective_from(current, at, Rules(event_time_window=new))
