"""Numbers in usage files: as exact plain decimal text, whatever marks a file writes in them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ...domain.errors import InvalidParameter, InvalidValue
from ...domain.text import abbreviated_repr
from .formats import ColumnPattern, UnclearCell

_MAX_ZEROS = 100
_PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_PLAIN_COLUMN = ColumnPattern(_PLAIN)
_DIGITS = re.compile(r"[0-9]+")
_NEGATIVE_IN_PARENTHESES = re.compile(r"\((.+)\)")
_LOOKS_LIKE_NUMBER = re.compile(r"[0-9][0-9.,' \u00a0\u202f\u2019]*")
_POINTED_GROUPS = re.compile(r"-?[1-9][0-9]{0,2}(?:\.[0-9]{3})+")
_POINT_ADVICE = "If its point is a decimal mark, use decimal='.'; if not, use thousands='.' and decimal=','"
SPACES = " \u00a0\u202f"
"""A space, and the spaces without a line break that spreadsheets write between groups of three digits."""

_SEPARATORS = {".": r"\.", ",": ",", "'": "['\u2019]", " ": f"[{SPACES}]"}
"""What the mark between groups of three digits matches."""


class UnclearValue(InvalidValue, UnclearCell):
    """A value that is a number if the file's marks for decimals and thousands are named."""


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How the numbers of a file are written.

    `decimal` is the decimal mark, a point or a comma; if it is None, it is a point, and numbers that may have another
    are rejected. `thousands` is the mark between groups of three digits: a point, a comma, an apostrophe or a space.
    With `is_semicolon_separated`, a number like 1.234 is unclear: such files come from where the comma is decimal.
    """

    decimal: str | None = None
    thousands: str | None = None
    is_semicolon_separated: bool = False

    def __post_init__(self) -> None:
        if self.decimal not in (None, ".", ","):
            raise InvalidParameter("'decimal' must be . or ,", field="decimal", value=self.decimal)
        if self.thousands not in (None, ".", ",", "'", " ") or self.thousands == (self.decimal or "."):
            raise InvalidParameter(
                "'thousands' must be . or , or ' or a space, and differ from the decimal mark.",
                field="thousands",
                value=self.thousands,
            )

    def are_plain(self, texts: Sequence[str]) -> bool:
        """Return whether all are plain numbers, each of which `parse` returns as it is."""
        if self.decimal == "," or self.thousands == "." or (self.is_semicolon_separated and self.decimal is None):
            return False
        return _PLAIN_COLUMN.matches(texts)

    def parse(self, text: str, field: str) -> str:
        """Return a number as plain decimal text. Text that is no number is returned as it is.

        A minus may be at the end, and parentheses stand for a minus, as in accounting. Raises UnclearValue.
        """
        if _PLAIN.fullmatch(text) and self.decimal != "," and self.thousands != ".":
            if self.is_semicolon_separated and self.decimal is None and _POINTED_GROUPS.fullmatch(text):
                raise _unclear(text, field, _POINT_ADVICE)
            return text
        digits = text.strip(SPACES)
        parenthesized = _NEGATIVE_IN_PARENTHESES.fullmatch(digits)
        if parenthesized:
            digits = f"-{parenthesized[1]}"
        elif digits.endswith("-") and not digits.startswith("-"):
            digits = f"-{digits[:-1].rstrip(SPACES)}"
        sign, digits = ("-", digits[1:].lstrip(SPACES)) if digits.startswith("-") else ("", digits)
        if not _LOOKS_LIKE_NUMBER.fullmatch(digits):
            return text
        return sign + self._to_plain(text, digits, field)

    def _to_plain(self, text: str, digits: str, field: str) -> str:
        mark = self.decimal or "."
        whole, _, fraction = digits.partition(mark)
        if self.thousands is not None:
            separator = _SEPARATORS[self.thousands]
            if re.fullmatch(rf"[0-9]{{1,3}}(?:{separator}[0-9]{{3}})+", whole):
                whole = re.sub(separator, "", whole)
        if not _DIGITS.fullmatch(whole) or not (_DIGITS.fullmatch(fraction) or mark not in digits):
            raise _unclear(text, field, _advice(digits))
        return whole + (f".{fraction}" if fraction else "")


def _unclear(text: str, field: str, advice: str) -> UnclearValue:
    return UnclearValue(f"The value of {field!r} is {abbreviated_repr(text)}. {advice}.", field=field, value=text)


def _advice(digits: str) -> str:
    """Return how to name the marks in a number."""
    last = max(digits.rfind(","), digits.rfind("."))
    marks = {character for character in digits if not character.isdigit()}
    if marks == {","} and digits.count(",") == 1:
        return "Name what its comma is: decimal=',' or thousands=','"
    if len(marks) > 1 and last >= 0:
        thousands = next(character for character in digits if not character.isdigit())
        named = "' '" if thousands in SPACES else f"'{thousands}'" if thousands != "'" else '"\'"'
        return f"Name its marks: decimal='{digits[last]}' and thousands={named}"
    thousands = next(iter(marks))
    if thousands == ".":
        return "Name the mark between its thousands, and the decimal mark: thousands='.' and decimal=','"
    named = "' '" if thousands in SPACES else f"'{thousands}'"
    return f"Name the mark between its thousands: thousands={named}"


def plain_number(cell: object) -> object:
    """Return a number as plain decimal text with the same digits, and any other value unchanged."""
    if type(cell) is int:  # the most frequent one
        return str(cell)
    if isinstance(cell, str) or not isinstance(cell, int | Decimal) or isinstance(cell, bool):
        return cell
    text = str(cell)
    if isinstance(cell, Decimal) and "E" in text and abs(cell.adjusted()) <= _MAX_ZEROS:
        return format(cell, "f")
    return text
