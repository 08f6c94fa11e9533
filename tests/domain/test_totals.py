"""Totals: a value that is independent of the order of merging."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain import Formula, Rules
from tallybook.domain.counting import UsageRecord
from tallybook.domain.totals import Totals

USAGE_RECORDS = st.lists(
    st.builds(
        UsageRecord,
        customer_id=st.just(1),
        occurred_at=st.integers(-3, 3),
        position=st.integers(1, 10**6),
        dimensions=st.just(""),
        value=st.none() | st.decimals(allow_nan=False, allow_infinity=False),
        recorded_at=st.just(0),
    ),
    unique_by=lambda usage: usage.position,
    max_size=12,
)


@given(USAGE_RECORDS, st.randoms(use_true_random=False), st.integers(0, 12), st.integers(0, 12))
def test_totals_of_parts_merge_to_the_totals_of_all(
    records: list[UsageRecord], random: object, first: int, second: int
) -> None:
    """Split anywhere, in any order, merged from either side: the same sum, count, last, minimum and maximum."""
    combined = Totals.from_usage(records)
    mixed = sorted(records, key=lambda usage: hash((usage.position, str(random))))
    cut, end = sorted((first, second))
    a, b, c = (Totals.from_usage(part) for part in (mixed[:cut], mixed[cut:end], mixed[end:]))
    for merged in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a).merge(b), c.merge(b.merge(a))):
        assert merged == combined


def test_empty_totals_add_nothing() -> None:
    """Without usage: 0, 0 and None; merging with other totals returns those."""
    some = Totals.from_usage([UsageRecord(1, 5, 7, "", Decimal("2.50"), 9)])
    assert Totals.from_usage([]) == Totals() == Totals().merge(Totals())
    assert (Totals().sum, Totals().count, Totals().last, Totals().min, Totals().max) == (0, 0, None, None, None)
    assert Totals().merge(some) == some == some.merge(Totals())


@pytest.mark.parametrize(("at", "position", "last"), [(4, 9, 1), (5, 6, 1), (5, 8, 2), (6, 1, 2)])
def test_last_is_by_occurred_at_and_then_position(at: int, position: int, last: int) -> None:
    """The latest time is last; at the same time, the latest position."""
    record, other_record = UsageRecord(1, 5, 7, "", Decimal(1), 0), UsageRecord(1, at, position, "", Decimal(2), 0)
    assert Totals.from_usage([record, other_record]).last == Totals.from_usage([other_record, record]).last == last
    assert Totals.from_usage([record]).merge(Totals.from_usage([other_record])).last == last
    assert Totals.from_usage([other_record]).merge(Totals.from_usage([record])).last == last


def test_a_last_usage_without_value_is_last() -> None:
    """`last` is then None, not an earlier value."""
    totals = Totals.from_usage([UsageRecord(1, 5, 7, "", Decimal(1), 0), UsageRecord(1, 6, 8, "", None, 0)])
    assert (totals.sum, totals.count, totals.last, totals.last_at) == (1, 2, None, 6)


@pytest.mark.parametrize(("formula", "quantity"), [(Formula.SUM, "-3.5"), (Formula.COUNT, "2"), (Formula.LAST, "-5")])
def test_a_formula_makes_a_quantity_of_totals(formula: Formula, quantity: str) -> None:
    """Sum, count or last as exact decimals; 0 without usage."""
    totals = Totals.from_usage([UsageRecord(1, 5, 7, "", Decimal("1.5"), 0), UsageRecord(1, 6, 8, "", Decimal(-5), 0)])
    assert Rules(formula=formula).quantity(totals) == Decimal(quantity)
    assert Rules(formula=formula).quantity(Totals()) == 0
