"""Numbers as texts of digits, which every engine compares and cuts exactly, whatever their size.

A value is plain decimal text: an optional minus sign, digits, and optionally a point and digits.
"""

from decimal import Decimal

from ....domain.decimals import canonical, to_plain_string
from .dialects import Dialect


def whole_digits(dialect: Dialect, value: str) -> str:
    """Return the digits of a value before the point, without zeros at the start."""
    unsigned = f"REPLACE({value}, '-', '')"
    point = dialect.find.format(f"{unsigned} || '.'", "'.'")
    return dialect.without_leading_zeros.format(f"SUBSTR({unsigned}, 1, {point} - 1)")


def fraction_digits(dialect: Dialect, value: str) -> str:
    """Return the digits of a value after the point."""
    unsigned = f"REPLACE({value}, '-', '')"
    point = dialect.find.format(f"{unsigned} || '.'", "'.'")
    return f"SUBSTR({unsigned}, {point} + 1)"


def magnitude(dialect: Dialect, value: str) -> str:
    """Return a text for the size of a value without its sign: the order of these texts is that of the numbers."""
    whole, fraction = whole_digits(dialect, value), fraction_digits(dialect, value)
    length = f"SUBSTR({dialect.text(f'LENGTH({whole}) + 10000')}, 2)"
    return f"{length} || {whole} || {dialect.without_trailing_zeros.format(fraction)}"


ZERO_MAGNITUDE = "0000"


def magnitude_of(number: Decimal) -> str:
    """Return the text that `magnitude` returns for a number."""
    whole, _, fraction = to_plain_string(canonical(abs(number))).partition(".")
    whole = whole.lstrip("0")
    return f"{len(whole):04d}{whole}{fraction}"
