"""Rounding: a billable quantity to a step, and quantities without a finite decimal form."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain import Rules
from tallybook.domain.rounding import Rounding, RoundingMode, to_decimal

UP, DOWN, HALF_UP = RoundingMode.UP, RoundingMode.DOWN, RoundingMode.HALF_UP
QUANTITIES = st.decimals(min_value=0, max_value=10**9, places=6)
STEPS = st.sampled_from(["1", "0.01", "0.25", "3", "100", "0.000001", "7.5"]).map(Decimal)


@pytest.mark.parametrize(
    ("step", "quantity", "up", "down", "half_up"),
    [
        ("1", "0", "0", "0", "0"),
        ("1", "2", "2", "2", "2"),
        ("1", "2.4", "3", "2", "2"),
        ("1", "2.5", "3", "2", "3"),
        ("1", "2.000000000000001", "3", "2", "2"),
        ("0.01", "1.005", "1.01", "1.00", "1.01"),
        ("0.01", "5", "5.00", "5.00", "5.00"),
        ("0.05", "1.02", "1.05", "1.00", "1.00"),
        ("100", "149", "200", "100", "100"),
        ("100", "150", "200", "100", "200"),
        ("3", "4.5", "6", "3", "6"),
        ("1", "9" * 40 + ".5", "1" + "0" * 40, "9" * 40, "1" + "0" * 40),
    ],
)
def test_a_quantity_is_rounded_to_a_multiple_of_the_step(
    step: str, quantity: str, up: str, down: str, half_up: str
) -> None:
    """A quantity that is a multiple stays; half a step goes up; numbers may have any size."""
    rounded = [Rounding(mode=mode, step=Decimal(step)).round(Decimal(quantity)) for mode in (UP, DOWN, HALF_UP)]
    assert [format(number, "f") for number in rounded] == [up, down, half_up]


@given(QUANTITIES, STEPS, st.sampled_from(RoundingMode))
def test_a_rounded_quantity_is_less_than_a_step_away(quantity: Decimal, step: Decimal, mode: RoundingMode) -> None:
    """On the side that the mode says, and a multiple of the step; rounding it again changes nothing."""
    rounding = Rounding(mode=mode, step=step)
    rounded = rounding.round(quantity)
    assert Fraction(rounded) % Fraction(step) == 0
    distance = Fraction(rounded) - Fraction(quantity)
    if mode is UP:
        assert 0 <= distance < step
    elif mode is DOWN:
        assert 0 >= distance > -step
    else:
        assert -Fraction(step) / 2 < distance <= Fraction(step) / 2
    assert rounding.round(rounded) == rounded


@pytest.mark.parametrize("mode", RoundingMode)
def test_a_negative_quantity_bills_0(mode: RoundingMode) -> None:
    """It is limited to 0 before it is rounded."""
    assert Rules(rounding=Rounding(mode=mode, step=Decimal("0.01"))).billable(Decimal("-0.005")) == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(7), "7"),
        (Fraction(1, 2), "0.5"),
        (Fraction(1, 2**40), format(Decimal(1) / 2**40, "f")),
        (Fraction(-3, 8), "-0.375"),
        (Fraction(10**40, 5), "2" + "0" * 39),
        (Fraction(1, 3), "0.333333333333333"),
        (Fraction(2, 3), "0.666666666666667"),
        (Fraction(-2, 3), "-0.666666666666667"),
        (Fraction(10**20, 7), "14285714285714285714.285714285714286"),
        (Fraction(1, 3 * 10**15), "0.000000000000000"),
    ],
)
def test_only_a_number_without_a_finite_form_is_rounded(number: Fraction, text: str) -> None:
    """Half to even at 15 digits after the point; all others have all of their digits."""
    assert format(to_decimal(number), "f") == text


@given(st.fractions(), st.fractions())
def test_rounding_keeps_the_order_of_numbers(first: Fraction, second: Fraction) -> None:
    """And a number is at most half of the last digit away from its decimal."""
    assert abs(Fraction(to_decimal(first)) - first) <= Fraction(1, 2 * 10**15)
    if first <= second:
        assert to_decimal(first) <= Fraction(to_decimal(second)) + Fraction(1, 10**15)
