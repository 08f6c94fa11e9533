"""Exact arithmetic on numbers of any size, in integers of 64 bits that every engine has.

A number is a row of limbs: columns with nine decimal digits each, most significant first. Each operation adds common
table expressions, one for each limb, as one calculates by hand. No engine's decimal type is used: these round, wrap or
end at 38 digits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .statement import Statement, select

LIMB_DIGITS = 9
BASE = 10**LIMB_DIGITS
MAX_DIVISOR = 9 * BASE
"""A remainder, followed by a limb, fits into 63 bits if the divisor isn't greater."""
MAX_SUMMANDS = BASE - 1
"""The number of events that a sum can have: each sum of limbs then has at most 18 digits."""
MAX_PRODUCTS = 8
"""The number of products of two limbs whose sum fits into 63 bits."""
_BIAS = 4 * BASE**2
"""Makes a sum of limbs positive, because engines divide negative integers in different ways."""
_MAX_LINE = 140


@dataclass(frozen=True)
class Number:
    """A number that isn't negative: the expressions of its limbs, and the number of digits after the point."""

    limbs: tuple[str, ...]
    scale: int

    def padded(self, count: int) -> "Number":
        """Return the number with at least so many limbs."""
        return Number(("0",) * (count - len(self.limbs)) + self.limbs, self.scale)


@dataclass(frozen=True)
class Quotient:
    """A whole quotient, and the names of the columns with the remainder and the divisor."""

    number: Number
    remainder: str
    divisor: str


class LimbArithmetic:
    """Adds columns to the rows of a statement, which are one for each total. All earlier columns remain."""

    def __init__(self, statement: Statement, source: str) -> None:
        self.source = source
        self._statement = statement
        self._dialect = statement.dialect
        self._totals = source
        self._columns: list[str] = []

    def add_columns(self, name: str, columns: Sequence[str]) -> None:
        """Add columns that can use all columns before."""
        if self._dialect.has_lateral_aliases:
            self._columns += columns
            self.source = self._statement.add("calculations", select(["*", *self._columns], self._totals))
            return
        query = f"SELECT *, {', '.join(columns)} FROM {self.source}"
        if len(query) > _MAX_LINE:
            query = select(["*", *columns], self.source)
        self.source = self._statement.add(name, query, materialized=True)

    def from_sums(self, sums: Sequence[str], scale: int, name: str) -> tuple[Number, str]:
        """Return the size of a number and its sign, given the sums of its limbs, which may have any sign."""
        sign, carried = f"{name}_sign", sums[-1]
        for limb in reversed(sums[:-1]):
            quotient = self._dialect.divide.format(f"({carried} + {_BIAS})", str(BASE))
            carried = f"{limb} + {quotient} - {_BIAS // BASE}"
        self.add_columns(f"{name}_signed", [f"CASE WHEN {carried} < 0 THEN -1 ELSE 1 END AS {sign}"])
        return self._carry(["0", *(f"{limb} * {sign}" for limb in sums)], scale, name, bias=_BIAS), sign

    def from_digits(self, digits: str, count: int, scale: int, name: str) -> Number:
        """Return the number of a text of digits, as many as `count` limbs have."""
        columns = [f"{name}_{index}" for index in range(count)]
        starts = [index * LIMB_DIGITS + 1 for index in range(count)]
        parts = [self._dialect.integer(f"SUBSTR({digits}, {start}, {LIMB_DIGITS})") for start in starts]
        self.add_columns(f"{name}_limbs", [f"{part} AS {column}" for part, column in zip(parts, columns, strict=True)])
        return Number(tuple(columns), scale)

    def multiply(self, number: Number, factor: int, name: str) -> Number:
        """Return the product with a constant. It has the scale of the number."""
        if factor == 1:
            return number
        factors: list[int] = []
        while factor:
            factor, limb = divmod(factor, BASE)
            factors.insert(0, limb)
        raw: list[list[str]] = [[] for _ in range(len(number.limbs) + len(factors))]
        for index, limb in enumerate(number.limbs):
            for other, constant in enumerate(factors):
                if constant and limb != "0":
                    raw[index + other + 1].append(f"{limb} * {constant}")
        return self._carry([" + ".join(terms) or "0" for terms in raw], number.scale, name)

    def increment(self, number: Number, increment: str, name: str) -> Number:
        """Return the sum with an integer that is 0 or 1."""
        return self._carry(["0", *number.limbs[:-1], f"{number.limbs[-1]} + {increment}"], number.scale, name)

    def divide(self, number: Number, divisor: str, name: str) -> Quotient:
        """Return the whole quotient by an integer from 1 to MAX_DIVISOR, from the first limb to the last."""
        columns, divisor_column = [f"{name}_{index}" for index in range(len(number.limbs))], f"{name}_divisor"
        self.add_columns(f"{name}_divided", [f"{divisor} AS {divisor_column}"])
        rest = ""
        for index, (limb, column) in enumerate(zip(number.limbs, columns, strict=True)):
            dividend = f"({rest} * {BASE} + {limb})" if rest else self._dialect.integer(limb)
            rest = f"{name}_rest_{index}"
            quotient = self._dialect.divide.format(dividend, divisor_column)
            step = [f"{quotient} AS {column}", f"{dividend} % {divisor_column} AS {rest}"]
            self.add_columns(f"{name}_step_{index}", step)
        return Quotient(Number(tuple(columns), number.scale), rest, divisor_column)

    def add_digits(self, number: Number, name: str) -> tuple[str, str]:
        """Add the column `NAME_digits`; return the expressions of the digits before and after the point."""
        number = number.padded(-(-(number.scale + 1) // LIMB_DIGITS))
        padded = [f"SUBSTR({self._dialect.text(f'{limb} + {BASE}')}, 2)" for limb in number.limbs]
        column, whole = f"{name}_digits", len(number.limbs) * LIMB_DIGITS - number.scale
        self.add_columns(column, [f"{' || '.join(padded)} AS {column}"])
        return f"SUBSTR({column}, 1, {whole})", f"SUBSTR({column}, {whole + 1})" if number.scale else "''"

    def add_text(self, sign: str, whole: str, fraction: str, name: str) -> str:
        """Add the plain decimal text of a number, and return the name of its column."""
        self.add_texts(name, {name: (sign, whole, fraction)})
        return f"{name}_text"

    def add_texts(self, name: str, numbers: Mapping[str, tuple[str, str, str]]) -> None:
        """Add the columns `NUMBER_text` with plain decimal text, given sign and digits before and after the point."""
        parts: list[str] = []
        texts: list[str] = []
        for number, (sign, whole, fraction) in numbers.items():
            parts.append(f"{self._dialect.without_leading_zeros.format(whole)} AS {number}_whole")
            parts.append(f"{fraction} AS {number}_fraction")
            texts.append(
                f"CASE WHEN {sign} = -1 THEN '-' ELSE '' END "
                f"|| CASE WHEN {number}_whole = '' THEN '0' ELSE {number}_whole END "
                f"|| CASE WHEN {number}_fraction = '' THEN '' ELSE '.' || {number}_fraction END AS {number}_text"
            )
        self.add_columns(f"{name}_parts", parts)
        self.add_columns(f"{name}_texts", texts)

    def is_zero(self, number: Number) -> str:
        """Return whether a number is 0."""
        return " AND ".join(f"{limb} = 0" for limb in number.limbs)

    def _carry(self, raw: Sequence[str], scale: int, name: str, bias: int = 0) -> Number:
        """Return the number of limbs that may be too large, or negative with a bias. The first one is that of 0."""
        columns, carry = [f"{name}_{index}" for index in range(len(raw))], ""
        for index in reversed(range(1, len(raw))):
            terms = [term for term in (raw[index], carry, str(bias)) if term not in {"", "0"}]
            carry = f"{name}_carry_{index}"
            total = f"({' + '.join(terms) or '0'})"
            quotient = self._dialect.divide.format(total, str(BASE)) + (f" - {bias // BASE}" if bias else "")
            self.add_columns(
                f"{name}_step_{index}", [f"{total} % {BASE} AS {columns[index]}", f"{quotient} AS {carry}"]
            )
        return Number((carry, *columns[1:]), scale)
