"""The lines of the digest of a total in SQL: one for each event that counts, as an explanation and a closing hash them.

Dates are calculated in integers: engines format them in different ways, and some only those of a few centuries.
"""

from ....domain.formulas import ValueType
from ....domain.rules import Rules
from .counted_events import add_counted_events
from .dialects import Dialect
from .number_text import ZERO_MAGNITUDE, fraction_digits, magnitude, whole_digits
from .statement import Statement, UsageSelection, select

_DAY = 86_400_000_000
_DAYS_BEFORE_1970 = 719_468
"""The days from 1 March of the year 0 to 1 January 1970. Years that begin in March end with the leap day."""
_DAYS_OF_400_YEARS = 146_097


def digest_lines_statement(
    selection: UsageSelection, rules: Rules, dialect: Dialect, *, with_customer: bool = False
) -> str:
    """Return the statement with a column `line`, in the order of the digest, and before it one `customer` if asked.

    The SHA-256 of the lines, each with a line feed at its end, is the digest.
    """
    statement = Statement(dialect)
    source = add_counted_events(statement, selection, ())
    source = _add_date(statement, source)
    is_text = rules.formula.rule.value_type is ValueType.TEXT
    source = _add_json_text(statement, source) if is_text else _add_plain_text(statement, source)
    parts = [
        dialect.text("position"), "','", _digits(dialect, "year_number", 4), "'-'", _digits(dialect, "month_number", 2),
        "'-'", _digits(dialect, "day_number", 2), "'T'", _digits(dialect, "hour_number", 2), "':'",
        _digits(dialect, "minute_number", 2), "':'", _digits(dialect, "second_number", 2),
        f"CASE WHEN micros = 0 THEN '' ELSE '.' || {_digits(dialect, 'micros', 6)} END", "'Z,'", "value_text",
    ]  # fmt: skip
    line = f"{' || '.join(parts)} AS line"
    columns = ["customer", line] if with_customer else [line]
    return statement.text(select(columns, source, (), "ORDER BY occurred_us, position"))


def _add_date(statement: Statement, source: str) -> str:
    """Add the parts of the time in UTC, by the Gregorian calendar in all years."""
    divide = statement.dialect.divide.format

    def add(name: str, *columns: str) -> None:
        nonlocal source
        source = statement.add(name, select(["*", *columns], source), materialized=True)

    shifted = f"(occurred_us + {_DAYS_BEFORE_1970 * _DAY})"
    add("days", f"{divide(shifted, _DAY)} AS day_count", f"{shifted} % {_DAY} AS day_us")
    add(
        "eras",
        f"{divide('day_count', _DAYS_OF_400_YEARS)} AS era",
        f"day_count % {_DAYS_OF_400_YEARS} AS era_day",
        f"{divide('day_us', 3_600_000_000)} AS hour_number",
        f"{divide('(day_us % 3600000000)', 60_000_000)} AS minute_number",
        f"{divide('(day_us % 60000000)', 1_000_000)} AS second_number",
        "day_us % 1000000 AS micros",
    )
    leap_days = f"{divide('era_day', 1460)} - {divide('era_day', 36524)} + {divide('era_day', 146096)}"
    add("years", f"{divide(f'(era_day - ({leap_days}))', 365)} AS era_year")
    add("year_days", f"era_day - (365 * era_year + {divide('era_year', 4)} - {divide('era_year', 100)}) AS year_day")
    add("months", f"{divide('(5 * year_day + 2)', 153)} AS month_index")
    add(
        "dates",
        f"year_day - {divide('(153 * month_index + 2)', 5)} + 1 AS day_number",
        "CASE WHEN month_index < 10 THEN month_index + 3 ELSE month_index - 9 END AS month_number",
        "era_year + era * 400 + CASE WHEN month_index < 10 THEN 0 ELSE 1 END AS year_number",
    )
    return source


def _digits(dialect: Dialect, number: str, width: int) -> str:
    return f"SUBSTR({dialect.text(f'{number} + {10**width}')}, 2)"


def _add_plain_text(statement: Statement, source: str) -> str:
    """Add the value as plain decimal text without zeros at the start; an empty text if there is none."""
    dialect = statement.dialect
    is_negative = f"value LIKE '-%' AND {magnitude(dialect, 'value')} <> '{ZERO_MAGNITUDE}'"
    parts = [
        f"{whole_digits(dialect, 'value')} AS whole",
        f"{fraction_digits(dialect, 'value')} AS fraction",
        f"CASE WHEN {is_negative} THEN '-' ELSE '' END AS sign",
    ]
    source = statement.add("split_values", select(["*", *parts], source))
    text = "sign || CASE WHEN whole = '' THEN '0' ELSE whole END"
    text += " || CASE WHEN fraction = '' THEN '' ELSE '.' || fraction END"
    return statement.add("value_texts", select(["*", f"COALESCE({text}, '') AS value_text"], source))


_REPLACEMENTS = 8
"""The number of nested calls in an expression: SQLite parses about 30."""


def _add_json_text(statement: Statement, source: str) -> str:
    """Add the unique value as a JSON string: control characters, quotes and backslashes are escaped."""
    dialect, text = statement.dialect, "value"
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
    characters = ["\\", '"', *map(chr, range(0 if dialect.lacks_nul else 1, 32))]
    for first in range(0, len(characters), _REPLACEMENTS):
        for character in characters[first : first + _REPLACEMENTS]:
            escape = short.get(character, f"\\u{ord(character):04x}")
            text = f"REPLACE({text}, {dialect.character.format(ord(character))}, {dialect.literal(escape)})"
        source = statement.add(f"escaped_values_{first}", select(["*", f"{text} AS escaped_{first}"], source))
        text = f"escaped_{first}"
    return statement.add("value_texts", select(["*", f"'\"' || {text} || '\"' AS value_text"], source))
