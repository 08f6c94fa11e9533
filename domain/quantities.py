"""What a value is, and arithmetic that never rounds."""

import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation
from typing import Annotated

from pydantic import PlainSerializer

from .errors import InvalidValue, TooManyDigits
from .texts import shown

EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Inexact])
"""The only arithmetic of the ledger: exact however large the figures, and an error where it could not be."""

ZERO = Decimal(0)


def plain(number: Decimal) -> str:
    """The number digit for digit, without an exponent: what a value is reported as, and how a figure is stored."""
    return format(number, "f")


PlainDecimal = Annotated[Decimal, PlainSerializer(plain, when_used="json")]
"""A number in a stored event: plain decimal text, which says it exactly."""

_PLAIN_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_SHORT = 20
_REMEMBERED = 65_536


def quantity(text: str, field: str) -> Decimal:
    """The exact number that `text` stands for.

    Plain decimal text with an optional leading minus; no exponent, plus sign, spaces or separators.
    Raises InvalidValue, naming `field`.
    """
    number = NUMBERS[text]
    if number is None:
        raise InvalidValue(
            f"The value of {field!r} must be plain decimal text like '25' or '-0.5', not {shown(text)}.",
            field=field,
            value=text,
        )
    return number


def check_digits(text: str, max_digits: int, field: str) -> None:
    """Refuse a value of more than `max_digits` significant digits, zeros at its end included.

    Source: Stripe accepts at most 15 since its version 2026-04-22.
    """
    digits = len(text.replace("-", "").replace(".", "").lstrip("0"))
    if digits > max_digits:
        raise TooManyDigits(
            f"The value of {field!r} has {digits} significant digits; at most {max_digits} are accepted.",
            field=field,
            value=text,
        )


def billable(total: Decimal) -> Decimal:
    """What is billed for a total: never less than 0. Source: Stripe, a negative cycle total bills 0."""
    return total if total > 0 else ZERO


def _number(text: str) -> Decimal | None:
    if _PLAIN_DECIMAL.fullmatch(text) is None:
        return None
    number = Decimal(text)
    return number or abs(number)  # a reported "-0" is 0


class _Numbers(dict[str, Decimal | None]):
    """Numbers by their text, the short ones remembered.

    Most reports are of few different values, and reading one costs more than finding it again.
    """

    def __missing__(self, text: str) -> Decimal | None:
        number = _number(text)
        if len(text) <= _SHORT:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[text] = number
        return number


NUMBERS = _Numbers()
"""The number that a text stands for; None where it is none."""
