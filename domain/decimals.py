"""Exact decimals: parsing, limits and formatting of values; arithmetic that never rounds."""

import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache

from .errors import InvalidValue, TooManyDigits
from .text import abbreviated_repr

EXACT_CONTEXT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Inexact])
"""The decimal context of all calculations: exact for numbers of any size; it raises Inexact instead of rounding."""

ZERO = Decimal(0)


def to_plain_string(number: Decimal) -> str:
    """Return the number as plain decimal text without an exponent, the form of values and stored totals."""
    return format(number, "f")


@lru_cache(maxsize=8_192)
def canonical(number: Decimal) -> Decimal:
    """Return the number without trailing zeros after the point: the one form of all equal numbers."""
    text = to_plain_string(number)
    if text[-1] != "0" or "." not in text:
        return number
    return Decimal(text.rstrip("0").rstrip("."))


PLAIN_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
"""The form of values and stored totals."""
_MAX_CACHED_LENGTH = 20
_CACHE_SIZE = 65_536


def parse_decimal(text: str, field: str) -> Decimal:
    """Return the exact number that `text` represents.

    `text` is plain decimal text with an optional leading minus, without exponent, plus sign, spaces or separators.
    Raises InvalidValue with `field` for any other text.
    """
    number = DECIMAL_CACHE[text]
    if number is None:
        raise InvalidValue(
            f"The value of {field!r} must be plain decimal text like '25' or '-0.5', not {abbreviated_repr(text)}.",
            field=field,
            value=text,
        )
    return number


def check_significant_digits(text: str, max_digits: int, field: str) -> None:
    """Raise TooManyDigits if a value has more than `max_digits` significant digits, trailing zeros included.

    Source: Stripe accepts at most 15 digits since its version 2026-04-22.
    """
    digits = len(text.replace("-", "").replace(".", "").lstrip("0"))
    if digits > max_digits:
        raise TooManyDigits(
            f"The value of {field!r} has {digits} significant digits; at most {max_digits} are accepted. "
            "Lift max_digits in the policy to accept more.",
            field=field,
            value=text,
        )


def _to_decimal(text: str) -> Decimal | None:
    if PLAIN_DECIMAL.fullmatch(text) is None:
        return None
    number = Decimal(text)
    return number or abs(number)  # "-0" becomes 0


class _DecimalCache(dict[str, Decimal | None]):
    """Maps text to its number, and caches short texts.

    Most meter events share few different values, and parsing a value takes longer than looking it up.
    """

    def __missing__(self, text: str) -> Decimal | None:
        number = _to_decimal(text)
        if len(text) <= _MAX_CACHED_LENGTH:
            if len(self) >= _CACHE_SIZE:
                self.clear()
            self[text] = number
        return number


DECIMAL_CACHE = _DecimalCache()
"""Maps text to the number it represents; None if it is no plain decimal text."""
