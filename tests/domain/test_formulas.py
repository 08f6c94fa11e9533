"""Formulas: the quantity of totals, and the share of each event in it."""

import hashlib
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain import Formula, Rules
from tallybook.domain.counting import UsageRecord
from tallybook.domain.formulas import ValueType
from tallybook.domain.totals import Totals, unique_key

VALUES = st.lists(
    st.one_of(
        st.integers(-9, 9).map(Decimal), st.sampled_from(["0.1", "-0.25", "7.0", "7.00", "0.0000000"]).map(Decimal)
    ),
    max_size=12,
)
MULTIPLIERS = st.sampled_from([None, Fraction(1, 3600), Fraction(1000), Fraction(1, 8), Fraction(7, 3)])


def records_of(values: list[Decimal], formula: Formula = Formula.SUM) -> list[UsageRecord]:
    """Return a record of each value, one second after each other."""
    if formula.rule.value_type is ValueType.TEXT:
        return [
            UsageRecord(1, second, second, "", None, 0, unique_value=str(value))
            for second, value in enumerate(values, 1)
        ]
    return [UsageRecord(1, second, second, "", value, 0) for second, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("formula", "quantity", "shares"),
    [
        (Formula.SUM, "9", ["4", "-2", "7", "-2", "2"]),
        (Formula.COUNT, "5", ["1", "1", "1", "1", "1"]),
        (Formula.LAST, "2", ["0", "0", "0", "0", "2"]),
        (Formula.MAX, "7", ["0", "0", "7", "0", "0"]),
        (Formula.MIN, "-2", ["0", "-2", "0", "0", "0"]),
        (Formula.AVG, "1.8", ["0.8", "-0.4", "1.4", "-0.4", "0.4"]),
        (Formula.UNIQUE_COUNT, "4", ["1", "1", "1", "0", "1"]),
    ],
)
def test_a_quantity_consists_of_the_shares_of_events(formula: Formula, quantity: str, shares: list[str]) -> None:
    """Each formula of 4, -2, 7, -2 and 2."""
    records, rules = records_of([Decimal(value) for value in (4, -2, 7, -2, 2)], formula), Rules(formula=formula)
    totals = Totals.with_unique_values(records)
    assert rules.quantity(totals) == Decimal(quantity)
    assert list(map(rules.contributions(totals), records)) == [Decimal(share) for share in shares]


@pytest.mark.parametrize("formula", Formula)
@pytest.mark.parametrize("multiplier", [None, Fraction(1, 3600), Fraction(1000)])
def test_a_formula_of_nothing_is_0(formula: Formula, multiplier: Fraction | None) -> None:
    """Whatever it is multiplied by."""
    rules = Rules(formula=formula, multiplier=multiplier)
    assert rules.quantity(Totals()) == rules.billable(rules.quantity(Totals())) == 0


@given(st.sampled_from(Formula), VALUES, MULTIPLIERS)
def test_contributions_add_up_to_the_quantity(
    formula: Formula, values: list[Decimal], multiplier: Fraction | None
) -> None:
    """Exactly, although an average or a multiplied quantity may have no finite decimal form."""
    records, rules = records_of(values, formula), Rules(formula=formula, multiplier=multiplier)
    totals = Totals.with_unique_values(records)
    contributions = list(map(rules.contributions(totals), records))
    assert sum(map(Fraction, contributions)) == Fraction(rules.quantity(totals))


NAIVE: dict[Formula, Callable[[list[Decimal]], Fraction]] = {
    Formula.SUM: lambda values: sum(map(Fraction, values), Fraction(0)),
    Formula.COUNT: lambda values: Fraction(len(values)),
    Formula.LAST: lambda values: Fraction(values[-1]) if values else Fraction(0),
    Formula.MAX: lambda values: Fraction(max(values, default=0)),
    Formula.MIN: lambda values: Fraction(min(values, default=0)),
    Formula.AVG: lambda values: sum(map(Fraction, values), Fraction(0)) / max(len(values), 1),
    Formula.UNIQUE_COUNT: lambda values: Fraction(len(set(map(str, values)))),
}


@given(st.sampled_from(Formula), VALUES, MULTIPLIERS)
def test_a_quantity_equals_the_formula_of_the_values(
    formula: Formula, values: list[Decimal], multiplier: Fraction | None
) -> None:
    """Exact if it has a finite form, and at most half of the fifteenth digit off otherwise."""
    rules = Rules(formula=formula, multiplier=multiplier)
    quantity = Fraction(rules.quantity(Totals.with_unique_values(records_of(values, formula))))
    expected = NAIVE[formula](values) * (multiplier or 1)
    assert abs(quantity - expected) <= Fraction(1, 2 * 10**15)
    if 10**60 % expected.denominator == 0:
        assert quantity == expected


@given(VALUES, VALUES)
def test_unique_values_of_parts_are_merged(first: list[Decimal], second: list[Decimal]) -> None:
    """A value in both parts counts once; merging has no order."""
    parts = [Totals.with_unique_values(records_of(values, Formula.UNIQUE_COUNT)) for values in (first, second)]
    rules = Rules(formula=Formula.UNIQUE_COUNT)
    expected = len(set(map(str, first + second)))
    assert rules.quantity(parts[0].merge(parts[1])) == rules.quantity(Totals.merge_all(parts[::-1])) == expected


def records_of_texts(texts: list[str]) -> list[UsageRecord]:
    """Return a record of each text, one second after each other."""
    return [UsageRecord(1, second, second, "", None, 0, unique_value=text) for second, text in enumerate(texts, 1)]


def test_long_texts_are_different_values() -> None:
    """Also one that has the form of the key of another, and ones that differ only at their ends."""
    digest = hashlib.sha256(b"x" * 65).hexdigest()
    texts = ["x" * 64, "x" * 65, "x" * 65 + "y", f"={digest}", digest, f"={digest}"[:64], "x" * 65, "ü" * 64, "ü" * 65]
    records, rules = records_of_texts(texts), Rules(formula=Formula.UNIQUE_COUNT)
    totals = Totals.with_unique_values(records)
    assert rules.quantity(totals) == len({*map(unique_key, texts)}) == len({*texts}) == 8
    assert [int(share) for share in map(rules.contributions(totals), records)] == [1, 1, 1, 1, 1, 1, 0, 1, 1]


def test_totals_and_shares_hold_no_long_texts() -> None:
    """The totals of all usage in a range are in memory, and texts have up to 5,000 characters."""
    texts = [f"{number}{'x' * 4_990}" for number in range(500)]
    rules = Rules(formula=Formula.UNIQUE_COUNT)
    tracemalloc.start()
    parts = [Totals.with_unique_values(records_of_texts([f"{text}y"])) for text in texts]
    contribution = rules.contributions(Totals.merge_all(parts))
    for text in texts:
        contribution(*records_of_texts([f"{text}y"]))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 1_000 * len(texts)


@given(VALUES, st.randoms(use_true_random=False))
def test_extremes_have_one_form(values: list[Decimal], random: object) -> None:
    """7, 7.0 and 7.00 are one minimum and maximum, to the digit, in whatever order they are added."""
    mixed = sorted(values, key=lambda value: hash((value, str(value), str(random))))
    totals, other = (Totals.from_usage(records_of(ordered)) for ordered in (values, mixed))
    assert (str(totals.min), str(totals.max)) == (str(other.min), str(other.max))
    merged = Totals()
    for record in records_of(mixed):
        merged = merged.merge(Totals.from_usage([record]))
    assert (str(merged.min), str(merged.max)) == (str(totals.min), str(totals.max))
