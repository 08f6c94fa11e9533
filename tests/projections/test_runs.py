"""Runs: usages of one bucket, cut where an hour ends or where they are too many."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.counting import Usage
from tallybook.projections import runs
from tallybook.projections.runs import LONG, LONGEST, SHORT, Run, cut

HOUR = 3_600_000_000
HOURS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=9)
"""So many usages in an hour, after those before them."""


def usages_in(hours: list[tuple[int, int]]) -> list[Usage]:
    """Usages in the ledger's order: of each pair the hour that they lie in, and how many they are."""
    at = [hour * HOUR + number for hour, many in hours for number in range(many)]
    return [Usage(1, one, position, "", Decimal(position), 0) for position, one in enumerate(at, 1)]


@given(HOURS.filter(bool))
def test_parts_hold_each_usage_once_and_in_order(hours: list[tuple[int, int]]) -> None:
    """None is too long; none but the last is short; a part ends with an hour, or is as long as one may be."""
    usages = usages_in(hours)
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in (("SHORT", 3), ("LONG", 6), ("LONGEST", 8)):
            patch.setattr(runs, name, limit)
        parts = list(cut(usages))
    assert [one for part in parts for one in part] == usages
    assert all(1 <= len(part) <= 8 for part in parts)
    assert len(parts) == 1 or len(usages) > 6
    for part, following in pairwise(parts):
        ends_an_hour = part[-1].occurred_at // HOUR != following[0].occurred_at // HOUR
        assert len(part) == 8 or (ends_an_hour and len(part) >= 3)


@pytest.mark.parametrize(
    ("hours", "lengths"),
    [
        ([(0, LONG - 1), (1, 1)], [LONG]),
        ([(0, LONG), (1, 1)], [LONG, 1]),
        ([(0, SHORT - 1), (1, LONG)], [SHORT - 1 + LONG]),
        ([(0, SHORT), (1, LONG)], [SHORT, LONG]),
        ([(0, LONGEST)], [LONGEST]),
        ([(0, LONGEST + 1)], [LONGEST, 1]),
        ([(0, 2 * LONGEST), (1, SHORT)], [LONGEST, LONGEST, SHORT]),
    ],
)
def test_where_the_limits_are(hours: list[tuple[int, int]], lengths: list[int]) -> None:
    """As many as are kept in one row, of one hour or of several."""
    assert [len(part) for part in cut(usages_in(hours))] == lengths


@given(HOURS.filter(bool), HOURS.filter(bool))
def test_two_runs_make_the_run_of_both(hours: list[tuple[int, int]], later: list[tuple[int, int]]) -> None:
    """From the first to the last of both, with what both add up to."""
    usages, first = usages_in([*hours, *later]), sum(many for _, many in hours)
    key = (1, 0, "")
    joined = Run.of(key, usages[:first]).followed_by(Run.of(key, usages[first:]))
    assert joined == Run.of(key, usages)
