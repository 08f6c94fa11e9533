"""The quantity of totals and what is billed of it, in SQL: average, multiplier and rounding, all exact."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from ....domain.decimals import to_plain_string
from ....domain.errors import InvalidParameter
from ....domain.rounding import FRACTIONAL_DIGITS, Rounding, RoundingMode
from .dialects import Dialect
from .limbs import BASE, LIMB_DIGITS, MAX_DIVISOR, MAX_PRODUCTS, LimbArithmetic, Number


@dataclass(frozen=True)
class SignedNumber:
    """A number with the expressions of its sign, 1 or -1, and of its plain decimal text."""

    number: Number
    sign: str
    text: str


@dataclass(frozen=True)
class Factor:
    """The factor `numerator / (10**digits * divisor)`, in which the divisor has no prime factor of 10."""

    numerator: int
    digits: int
    divisor: int

    @classmethod
    def of(cls, factor: Fraction) -> "Factor":
        """Return a factor in this form."""
        divisor, exponents = factor.denominator, {2: 0, 5: 0}
        for prime in exponents:
            while divisor % prime == 0:
                divisor //= prime
                exponents[prime] += 1
        digits = max(exponents.values())
        numerator = factor.numerator * 2 ** (digits - exponents[2]) * 5 ** (digits - exponents[5])
        return cls(numerator, digits, divisor)


class Quantities:
    """Adds the quantity of totals to a statement."""

    def __init__(self, arithmetic: LimbArithmetic, dialect: Dialect) -> None:
        self._arithmetic = arithmetic
        self._dialect = dialect

    def scaled(self, base: SignedNumber, multiplier: Fraction | None, count: str, max_count: int) -> SignedNumber:
        """Return a number times the multiplier, divided by an integer from 1 to `max_count` if `count` is one.

        A quotient without a finite decimal form is rounded half to even at 15 digits after the point.
        Raises InvalidParameter if the multiplier has too many digits.
        """
        factor = Factor.of(Fraction(1) if multiplier is None else multiplier)
        max_divisor = factor.divisor * (max_count if count else 1)
        if max_divisor > MAX_DIVISOR:
            raise InvalidParameter(
                f"SQL can't express the multiplier {multiplier} exactly: what it is divided by, without factors of 2 "
                f"and 5{' and times the number of events' if count else ''}, is greater than {MAX_DIVISOR}.",
                field="multiplier",
                value=multiplier,
            )
        scale = base.number.scale + factor.digits
        if max_divisor == 1 and not count:
            product = self._multiply(base.number, factor.numerator, "product")
            return self._described(Number(product.limbs, scale), base.sign, "value")
        if count:
            scale += max_count.bit_length()  # a finite quotient has no more digits
        scale = max(scale, FRACTIONAL_DIGITS)
        scale += (FRACTIONAL_DIGITS - scale) % LIMB_DIGITS
        zeros = scale - base.number.scale - factor.digits
        product = self._multiply(base.number, factor.numerator * 10**zeros, "product")
        divisor = " * ".join(term for term in (count, str(factor.divisor)) if term not in {"", "1"})
        return self._rounded_quotient(Number(product.limbs, scale), divisor, base.sign)

    def billable(self, quantity: SignedNumber, rounding: Rounding | None) -> str:
        """Return the text of what is billed of a quantity: at least 0, and rounded.

        Raises InvalidParameter if the step of the rounding has too many digits.
        """
        if rounding is None:
            return f"CASE WHEN {quantity.sign} = -1 THEN '0' ELSE {quantity.text} END"
        exponent = rounding.step.as_tuple().exponent
        digits = max(-exponent, 0) if isinstance(exponent, int) else 0
        steps = self._steps(quantity.number, rounding)
        product = self._multiply(steps, int(rounding.step.scaleb(digits)), "billable")
        whole, fraction = self._arithmetic.add_digits(Number(product.limbs, digits), "billable")
        text = self._arithmetic.add_text("1", whole, fraction, "billable")
        return f"CASE WHEN {quantity.sign} = -1 THEN '{to_plain_string(Decimal(0).scaleb(-digits))}' ELSE {text} END"

    def _steps(self, quantity: Number, rounding: Rounding) -> Number:
        """Return the whole number of steps that the size of a quantity is rounded to."""
        factor = Factor.of(1 / Fraction(rounding.step))  # times this, a quantity is a number of steps
        if factor.divisor > MAX_DIVISOR:
            raise InvalidParameter(
                f"SQL can't express the step {rounding.step} of the rounding exactly: without factors of 2 and 5 it is "
                f"greater than {MAX_DIVISOR}.",
                field="rounding",
                value=rounding,
            )
        zeros = -(quantity.scale + factor.digits) % LIMB_DIGITS
        dropped_limbs = (quantity.scale + factor.digits + zeros) // LIMB_DIGITS
        product = self._multiply(quantity, factor.numerator * 10**zeros, "in_steps").padded(dropped_limbs + 1)
        whole_limbs = len(product.limbs) - dropped_limbs
        whole, dropped = Number(product.limbs[:whole_limbs], 0), product.limbs[whole_limbs:]
        quotient = self._arithmetic.divide(whole, str(factor.divisor), "steps_quotient")
        up = _rounds_up(rounding.mode, quotient.remainder, factor.divisor, dropped)
        if not up:
            return quotient.number
        return self._arithmetic.increment(quotient.number, f"CASE WHEN {up} THEN 1 ELSE 0 END", "steps")

    def _rounded_quotient(self, dividend: Number, divisor: str, sign: str) -> SignedNumber:
        """Return a quotient with all of its digits if it is finite, or rounded at 15 digits after the point."""
        quotient = self._arithmetic.divide(dividend, divisor, "quotient")
        remainder, extra = quotient.remainder, (dividend.scale - FRACTIONAL_DIGITS) // LIMB_DIGITS
        limbs = quotient.number.padded(extra + 1).limbs
        upper, dropped = limbs[: len(limbs) - extra], limbs[len(limbs) - extra :]
        if dropped:  # with a remainder, it is never a tie
            is_up = f"{dropped[0]} >= {BASE // 2}"
        else:
            tie = f"2 * {remainder} = {quotient.divisor} AND {upper[-1]} % 2 = 1"
            is_up = f"(2 * {remainder} > {quotient.divisor} OR ({tie}))"
        increment = f"CASE WHEN {remainder} > 0 AND {is_up} THEN 1 ELSE 0 END"
        rounded = self._arithmetic.increment(Number(upper, FRACTIONAL_DIGITS), increment, "rounded")
        exact = tuple(f"CASE WHEN {remainder} = 0 THEN {limb} ELSE 0 END" for limb in dropped)
        finite = self._described(Number(rounded.limbs + exact, dividend.scale), sign, "finite")
        infinite = self._described(rounded, sign, "infinite", with_zeros=True)
        text = f"CASE WHEN {remainder} = 0 THEN {finite.text} ELSE {infinite.text} END"
        return SignedNumber(finite.number, sign, text)

    def _described(self, number: Number, sign: str, name: str, *, with_zeros: bool = False) -> SignedNumber:
        """Return a number with its text, with or without the zeros at the end."""
        whole, fraction = self._arithmetic.add_digits(number, name)
        if fraction != "''" and not with_zeros:
            fraction = self._dialect.without_trailing_zeros.format(fraction)
        sign = f"CASE WHEN {self._arithmetic.is_zero(number)} THEN 1 ELSE {sign} END"
        self._arithmetic.add_columns(f"{name}_signed", [f"{sign} AS {name}_sign"])
        return SignedNumber(number, f"{name}_sign", self._arithmetic.add_text(f"{name}_sign", whole, fraction, name))

    def _multiply(self, number: Number, factor: int, name: str) -> Number:
        factor_limbs = -(-len(str(factor)) // LIMB_DIGITS)
        if min(factor_limbs, len(number.limbs)) > MAX_PRODUCTS:
            raise InvalidParameter(
                "SQL can't express the multiplier or the rounding exactly: they and the values have too many digits.",
                field="rules",
            )
        return self._arithmetic.multiply(number, factor, name)


def _rounds_up(mode: RoundingMode, remainder: str, divisor: int, dropped: tuple[str, ...]) -> str:
    """Return whether a number of steps is rounded up, given what is left of a quantity; "" if it never is."""
    match mode:
        case RoundingMode.DOWN:
            return ""
        case RoundingMode.UP:
            return " OR ".join(f"{part} > 0" for part in (remainder, *dropped))
        case RoundingMode.HALF_UP:
            half = f"2 * {remainder} >= {divisor}"
            if not dropped:
                return half
            return f"{half} OR (2 * {remainder} = {divisor - 1} AND {dropped[0]} >= {BASE // 2})"
