"""A meter's totals as one statement, whose result has the ledger's own totals as plain decimal text."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from ....domain.errors import InvalidParameter
from ....domain.formulas import Formula, ValueType
from ....domain.rules import Rules
from ....domain.totals import Totals
from .counted_events import add_counted_events
from .dialects import Dialect
from .limbs import BASE, LIMB_DIGITS, MAX_SUMMANDS, LimbArithmetic, Number
from .number_text import fraction_digits, whole_digits
from .quantities import Quantities, SignedNumber
from .statement import Statement, UsageSelection, select

MAX_VALUE_DIGITS = 180
"""The number of digits of a value, before and after the point, that a statement can be made for."""
_SHIFT = 1 << 62
"""Added to times and positions, so that all have 19 digits and their texts have the order of the numbers."""
_TIME_DIGITS = 19


class ValueLimits(NamedTuple):
    """How long values are and how many events a total has: what a statement is made for.

    If the data has longer values or more events, the columns of its result are NULL.
    """

    whole_digits: int = 1
    fraction_digits: int = 0
    max_count: int = 1

    @classmethod
    def of(cls, totals: Sequence[Totals]) -> "ValueLimits":
        """Return the limits of the usage in some totals: a sum has as many digits after the point as its values."""
        whole, fraction = 1, 0
        for part in totals:
            numbers = [number for number in (part.min, part.max) if number is not None]
            whole = max([whole, *(number.adjusted() + 1 for number in numbers)])
            fraction = max([fraction, *(_fraction_digits(number) for number in (part.sum, *numbers))])
        return cls(whole, fraction, max([1, *(part.count for part in totals)]))


def _fraction_digits(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


@dataclass(frozen=True)
class TotalsQuery:
    """A query of totals: of each customer, or of all usage of the selection together, by the values of dimensions.

    `rules` are those for the quantity, which is the same under all rules of the selection. If there are totals for
    windows, `windows` are expressions of the start of the window of an event, from its time `occurred_us`: the result
    has the totals by all of them.
    """

    selection: UsageSelection
    rules: Rules
    by_customer: bool
    group_by: tuple[str, ...]
    limits: ValueLimits
    windows: tuple[str, ...] = ()

    @property
    def dimensions(self) -> dict[str, str]:
        """The columns of the dimensions that the totals are grouped by, with their keys."""
        return {f"group_{number}": key for number, key in enumerate(self.group_by, 1)}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the totals are grouped by."""
        customer = ("customer",) if self.by_customer else ()
        window = ("window_number", "window_start") if self.windows else ()
        return (*customer, *window, *self.dimensions)


RESULT_COLUMNS = ("value", "billable", "sum", "count", "last", "min", "max")
"""The columns of the result after those that it is grouped by."""


def totals_statement(query: TotalsQuery, dialect: Dialect) -> str:
    """Return the statement of a query.

    Raises InvalidParameter if the statement can't be exact: the values or the numbers of the rules are too long.
    """
    return _TotalsStatement(query, dialect).text()


class _TotalsStatement:
    def __init__(self, query: TotalsQuery, dialect: Dialect) -> None:
        limits = query.limits
        if limits.whole_digits + limits.fraction_digits > MAX_VALUE_DIGITS:
            raise InvalidParameter(
                f"The values have {limits.whole_digits + limits.fraction_digits} digits; a statement can be made for "
                f"{MAX_VALUE_DIGITS}.",
                field="event_name",
                value=query.selection.event_name,
            )
        self._query = query
        self._dialect = dialect
        self._rules = query.rules
        self._statement = Statement(dialect)
        self._has_numbers = self._rules.formula.rule.value_type is not ValueType.TEXT
        self._fraction = limits.fraction_digits
        self._limbs = max(-(-(limits.whole_digits + self._fraction) // LIMB_DIGITS), 1)
        self._whole = self._limbs * LIMB_DIGITS - self._fraction
        self._zeros = "0" * (self._limbs * LIMB_DIGITS)

    def text(self) -> str:
        source = add_counted_events(self._statement, self._query.selection, self._query.group_by)
        if self._has_numbers:
            source = self._add_digits(source)
        if self._query.windows:
            queries = [
                f"SELECT *, {number} AS window_number, {window} AS window_start FROM {source}"
                for number, window in enumerate(self._query.windows)
            ]
            source = self._statement.add("windows", "\nUNION ALL\n".join(queries))
        arithmetic = LimbArithmetic(self._statement, self._add_aggregates(source))
        self._add_check(arithmetic)
        results = self._add_results(arithmetic)
        return self._statement.text(self._final_query(arithmetic.source, results))

    def _add_digits(self, source: str) -> str:
        """Add the digits of each value, as many before and after the point for all values."""
        dialect = self._dialect
        parts = [f"{whole_digits(dialect, 'value')} AS whole", f"{fraction_digits(dialect, 'value')} AS fraction"]
        source = self._statement.add("split_values", select(["*", *parts], source))
        digits = f"SUBSTR('{self._zeros[: self._whole]}' || whole, LENGTH(whole) + 1, {self._whole})"
        if self._fraction:
            digits += f" || SUBSTR(fraction || '{self._zeros[: self._fraction]}', 1, {self._fraction})"
        source = self._statement.add("padded_values", select(["*", f"{digits} AS digits"], source))
        sign = f"CASE WHEN value LIKE '-%' AND digits <> '{self._zeros}' THEN -1 ELSE 1 END AS sign"
        return self._statement.add("signed_values", select(["*", sign], source))

    def _add_aggregates(self, source: str) -> str:
        columns = [*self._query.columns, "COUNT(*) AS event_count"]
        if self._has_numbers:
            columns += self._number_aggregates()
        else:
            columns.append(f"{self._dialect.count_distinct.format('value')} AS unique_count")
        end = f"GROUP BY {', '.join(self._query.columns)}" if self._query.columns else ""
        return self._statement.add("aggregates", select(columns, source, (), end), materialized=True)

    def _number_aggregates(self) -> list[str]:
        dialect = self._dialect
        order = " || ".join(dialect.text(f"{column} + {_SHIFT}") for column in ("occurred_us", "position"))
        scale = f"SUBSTR({dialect.text('LENGTH(fraction) + 1000')}, 2)"
        value = f"CASE WHEN sign = -1 THEN '-' ELSE '+' END || {scale} || digits"
        columns = [f"MAX({order} || COALESCE({value}, '')){dialect.binary_order} AS latest"]
        for name, sign in (("positive", 1), ("negative", -1)):
            of_sign = f"CASE WHEN sign = {sign} THEN digits END"
            columns += [f"MAX({of_sign}) AS max_{name}", f"MIN({of_sign}) AS min_{name}"]
        for index in range(self._limbs):
            limb = dialect.integer(f"SUBSTR(digits, {index * LIMB_DIGITS + 1}, {LIMB_DIGITS})")
            columns.append(f"{dialect.integer(f'COALESCE(SUM({limb} * sign), 0)')} AS sum_limb_{index}")
        columns.append("COALESCE(MAX(LENGTH(whole)), 0) AS longest_whole")
        columns.append("COALESCE(MAX(LENGTH(fraction)), 0) AS longest_fraction")
        return columns

    def _add_results(self, arithmetic: LimbArithmetic) -> dict[str, str]:
        """Add what the result is computed from; return the expression of each column of the result."""
        dialect, base, nothing = self._dialect, self._integer("unique_count"), self._dialect.text("NULL")
        results = {"count": "event_count", "sum": "'0'", "last": nothing, "min": nothing, "max": nothing}
        if self._has_numbers:
            sums = [f"sum_limb_{index}" for index in range(self._limbs)]
            number, sign = arithmetic.from_sums(sums, self._fraction, "sum")
            whole, fraction = arithmetic.add_digits(number, "sum")
            fraction = f"SUBSTR({fraction}, 1, longest_fraction)" if self._fraction else "''"
            results["sum"] = arithmetic.add_text(sign, whole, fraction, "sum")
            results |= self._add_selected_values(arithmetic)
            base = self._base(arithmetic, SignedNumber(number, sign, results["sum"]), results)
        rules, quantities = self._rules, Quantities(arithmetic, dialect)
        count = "CASE WHEN event_count = 0 THEN 1 ELSE event_count END" if rules.formula is Formula.AVG else ""
        if rules.multiplier is not None or count:
            base = quantities.scaled(base, rules.multiplier, count, self._query.limits.max_count)
        return {**results, "value": base.text, "billable": quantities.billable(base, rules.rounding)}

    def _add_selected_values(self, arithmetic: LimbArithmetic) -> dict[str, str]:
        """Add sign and digits of the last, the smallest and the largest value; return their texts."""
        after = 2 * _TIME_DIGITS
        scale = f"CAST(SUBSTR(latest, {after + 2}, 3) AS {self._dialect.length_type})"
        arithmetic.add_columns(
            "selected_values",
            [
                f"CASE WHEN LENGTH(latest) > {after} THEN SUBSTR(latest, {after + 5}) END AS last_digits",
                f"CASE WHEN SUBSTR(latest, {after + 1}, 1) = '-' THEN -1 ELSE 1 END AS last_sign",
                f"CASE WHEN LENGTH(latest) > {after} THEN {scale} END AS last_scale",
                "CASE WHEN max_negative IS NULL THEN min_positive ELSE max_negative END AS min_digits",
                "CASE WHEN max_negative IS NULL THEN 1 ELSE -1 END AS min_sign",
                "CASE WHEN max_positive IS NULL THEN min_negative ELSE max_positive END AS max_digits",
                "CASE WHEN max_positive IS NULL THEN -1 ELSE 1 END AS max_sign",
            ],
        )
        numbers: dict[str, tuple[str, str, str]] = {}
        for name in ("last", "min", "max"):
            whole, fraction = f"SUBSTR({name}_digits, 1, {self._whole})", "''"
            if self._fraction:
                start = f"SUBSTR({name}_digits, {self._whole + 1}"
                is_last = name == "last"
                fraction = (
                    f"{start}, last_scale)" if is_last else self._dialect.without_trailing_zeros.format(f"{start})")
                )
            numbers[name] = f"{name}_sign", whole, fraction
        arithmetic.add_texts("selected", numbers)
        return {name: f"{name}_text" for name in numbers}

    def _base(self, arithmetic: LimbArithmetic, total: SignedNumber, results: dict[str, str]) -> SignedNumber:
        """Return the quantity of a formula before its multiplier, and the sum for an average."""
        match self._rules.formula:
            case Formula.LAST | Formula.MAX | Formula.MIN as formula:
                return self._selected_value(arithmetic, formula.value, results[formula.value])
            case Formula.COUNT:
                return self._integer("event_count")
            case _:
                return total

    def _integer(self, column: str) -> SignedNumber:
        limbs = (self._dialect.divide.format(column, str(BASE)), f"{column} % {BASE}")
        return SignedNumber(Number(limbs, 0), "1", self._dialect.text(column))

    def _selected_value(self, arithmetic: LimbArithmetic, name: str, text: str) -> SignedNumber:
        """Return the last, the smallest or the largest value as a number; 0 if there is none."""
        digits = f"COALESCE({name}_digits, '{self._zeros}')"
        arithmetic.add_columns(
            "quantity_signed", [f"CASE WHEN {digits} = '{self._zeros}' THEN 1 ELSE {name}_sign END AS quantity_sign"]
        )
        number = arithmetic.from_digits(digits, self._limbs, self._fraction, "quantity")
        text = f"CASE WHEN {digits} = '{self._zeros}' THEN '0' ELSE {text} END"
        return SignedNumber(number, "quantity_sign", text)

    def _add_check(self, arithmetic: LimbArithmetic) -> None:
        """Add whether the data is within the limits that the statement is made for."""
        limits = [f"event_count <= {min(self._query.limits.max_count, MAX_SUMMANDS)}"]
        if self._has_numbers:
            limits += [f"longest_whole <= {self._query.limits.whole_digits}", f"longest_fraction <= {self._fraction}"]
        condition = f"CASE WHEN {' AND '.join(limits)} THEN 1 ELSE 0 END"
        arithmetic.add_columns("checked_aggregates", [f"{condition} AS is_within_limits"])

    def _final_query(self, source: str, results: dict[str, str]) -> str:
        columns = list(self._query.columns)
        columns += [f"CASE WHEN is_within_limits = 1 THEN {results[name]} END AS {name}" for name in RESULT_COLUMNS]
        order = ", ".join(f"{column}{self._dialect.binary_order} NULLS FIRST" for column in self._query.columns)
        return select(columns, source, (), f"ORDER BY {order}" if order else "")
