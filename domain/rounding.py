"""Rounding of quantities: how a billable quantity is rounded, and the one rounding of numbers without a finite form."""

from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from pydantic import BaseModel, ConfigDict, Field

from .decimal_fields import RuleNumber
from .decimals import EXACT_CONTEXT

FRACTIONAL_DIGITS = 15
"""The digits after the point of a quantity that has no finite decimal form, such as one third."""


class RoundingMode(StrEnum):
    """How a billable quantity that lies between two steps is rounded."""

    UP = "up"
    DOWN = "down"
    HALF_UP = "half_up"


class Rounding(BaseModel):
    """Rounds to a multiple of `step`: 1 to whole numbers, 0.01 to two decimal places, 1000 to whole thousands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: RoundingMode
    step: RuleNumber = Field(default=Decimal(1), gt=0, max_digits=30)

    def round(self, quantity: Decimal) -> Decimal:
        """Return the multiple of the step that the quantity is rounded to."""
        steps = Fraction(quantity) / Fraction(self.step)
        whole, rest = divmod(steps.numerator, steps.denominator)
        if rest and (
            self.mode is RoundingMode.UP or (self.mode is RoundingMode.HALF_UP and 2 * rest >= steps.denominator)
        ):
            whole += 1
        return EXACT_CONTEXT.multiply(Decimal(whole), self.step)


def to_decimal(number: Decimal | Fraction) -> Decimal:
    """Return an exact number as a decimal, rounded half to even at 15 digits after the point if it has no finite form.

    A number with a finite form has all of its digits.
    """
    if isinstance(number, Decimal):
        return number
    denominator, digits = number.denominator, 0
    for prime in (2, 5):
        exponent = 0
        while denominator % prime == 0:
            denominator //= prime
            exponent += 1
        digits = max(digits, exponent)
    if denominator != 1:
        digits = FRACTIONAL_DIGITS
    return Decimal(round(number * 10**digits)).scaleb(-digits, EXACT_CONTEXT)
