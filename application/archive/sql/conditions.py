"""The filter of a meter as a condition in SQL. It is true or false and never NULL, so that it can be negated."""

from collections.abc import Callable, Iterator
from decimal import Decimal

from ....domain.conditions import All, AnyOf, Compare, Condition, Equals, Exists, Not, OneOf
from .dialects import Dialect
from .number_text import ZERO_MAGNITUDE, magnitude, magnitude_of

ColumnOf = Callable[[str], str]
"""Returns the name of the column with the text under a payload key."""


def keys_of(condition: Condition) -> Iterator[str]:
    """Yield the payload keys that a condition reads; one may occur several times."""
    match condition:
        case Not():
            yield from keys_of(condition.condition)
        case All() | AnyOf():
            for part in condition.conditions:
                yield from keys_of(part)
        case Equals() | OneOf() | Exists() | Compare():
            yield condition.key


def compared_keys(condition: Condition) -> list[str]:
    """Return the payload keys under which a condition compares numbers, each once."""
    match condition:
        case Not():
            return compared_keys(condition.condition)
        case All() | AnyOf():
            return list(dict.fromkeys(key for part in condition.conditions for key in compared_keys(part)))
        case Compare():
            return [condition.key]
        case _:
            return []


def number_columns(dialect: Dialect, column: str) -> list[str]:
    """Return the columns that comparisons of the text in a column need; NULL unless it is a number."""
    size = f"CASE WHEN {dialect.is_decimal.format(column)} THEN {magnitude(dialect, column)} END"
    return [
        f"({size}){dialect.binary_order} AS {column}_size",
        f"CASE WHEN {column} LIKE '-%' THEN -1 ELSE 1 END AS {column}_sign",
    ]


def condition_sql(dialect: Dialect, condition: Condition, column_of: ColumnOf) -> str:
    """Return a condition in SQL. Numbers are compared by the columns of `number_columns`."""
    match condition:
        case Equals(key=key, equals=text):
            return f"({column_of(key)} IS NOT NULL AND {column_of(key)} = {dialect.literal(text)})"
        case OneOf(key=key, one_of=texts):
            listed = ", ".join(dialect.literal(text) for text in texts)
            return f"({column_of(key)} IS NOT NULL AND {column_of(key)} IN ({listed}))"
        case Exists(key=key, exists=exists):
            return f"{column_of(key)} IS {'NOT NULL' if exists else 'NULL'}"
        case Compare():
            return _comparison(condition, column_of(condition.key))
        case Not():
            return f"NOT ({condition_sql(dialect, condition.condition, column_of)})"
        case All() | AnyOf():
            parts = [condition_sql(dialect, part, column_of) for part in condition.conditions]
            return f"({(' AND ' if isinstance(condition, All) else ' OR ').join(parts)})"


def _comparison(condition: Compare, column: str) -> str:
    bounds = {
        ">": condition.greater_than,
        ">=": condition.at_least,
        "<": condition.less_than,
        "<=": condition.at_most,
    }
    parts = [_compare(column, operator, bound) for operator, bound in bounds.items() if bound is not None]
    return f"({column}_size IS NOT NULL AND {' AND '.join(parts)})"


def _compare(column: str, operator: str, bound: Decimal) -> str:
    """Return the comparison of a number with a bound: by the signs, and by the size if they are the same."""
    size = f"'{magnitude_of(bound)}'"
    is_zero = f"{column}_size = '{ZERO_MAGNITUDE}'"
    is_positive, is_negative = f"({column}_sign = 1 OR {is_zero})", f"({column}_sign = -1 AND NOT {is_zero})"
    is_above = operator in {">", ">="}
    if bound >= 0:
        same_sign, other_sign = is_positive, is_negative
        by_size = f"{column}_size {operator} {size}"
    else:
        same_sign, other_sign = is_negative, is_positive
        by_size = f"{column}_size {_MIRRORED[operator]} {size}"
    if is_above == (bound >= 0):  # a number of the other sign is on the wrong side of the bound
        return f"({same_sign} AND {by_size})"
    return f"({other_sign} OR {by_size})"


_MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}
