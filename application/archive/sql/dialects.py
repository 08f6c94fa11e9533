"""What differs between the SQL of the engines. Everything else in a statement is the same text on all of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ....domain.errors import InvalidParameter
from ....domain.text import abbreviated_repr


class DialectName(StrEnum):
    """The dialect of SQL of an engine that runs the statements."""

    DUCKDB = "duckdb"
    SPARK = "spark"
    POSTGRES = "postgres"
    SQLITE = "sqlite"
    CLICKHOUSE = "clickhouse"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The SQL of an engine. `{0}` and `{1}` in a field are the places of its arguments, which are SQL expressions."""

    microseconds: str
    """The microseconds from 1970 UTC to a time."""
    payload_text: str
    """The text under a key, a literal, of the column `payload`; NULL if the payload lacks the key."""
    is_decimal: str
    """Whether a text is plain decimal text; NULL or false for NULL."""
    lacks_nul: str = ""
    """Whether a text has no character U+0000; empty if texts of the engine can't have one."""
    character: str = "CHR({0})"
    """The character of a number in Unicode below 128."""
    find: str = "INSTR({0}, {1})"
    """The number of the first character of a part of a text, from 1 on."""
    divide: str = "{0} / {1}"
    """The whole quotient of two integers that are not negative."""
    without_leading_zeros: str = "LTRIM({0}, '0')"
    without_trailing_zeros: str = "RTRIM({0}, '0')"
    count_distinct: str = "COUNT(DISTINCT {0})"
    """The exact number of different values."""
    integer_type: str = "BIGINT"
    length_type: str = "INTEGER"
    """The type of an integer that can be the length of a text."""
    text_type: str = "VARCHAR"
    escape: Callable[[str], str] = lambda text: text.replace("'", "''")
    """Returns a text as it is written in a literal."""
    materialized: str = ""
    """The keyword that keeps an engine from copying a common table expression into each place that uses it."""
    has_lateral_aliases: bool = False
    """Whether a column can use those before it in the same SELECT. Then a calculation is one query, not one for each
    step: Spark's optimizer took half a minute for a chain of 50 queries, and 1 GB was too little for one of 97."""
    binary_order: str = ""
    """What a text is followed by to be ordered by its bytes in UTF-8, which is the order of its characters."""
    preparation: str = ""
    """A statement to run before."""
    settings: str = ""
    """The clause at the end of a statement."""

    def literal(self, text: str) -> str:
        """Return a text as a literal. Raises InvalidParameter if it contains U+0000, which no statement can hold.

        Line breaks are written as functions: the indentation, and programs that copy a statement, change line breaks.
        """
        if "\0" in text:
            raise InvalidParameter(
                f"SQL can't express a text with the character U+0000: {abbreviated_repr(text)}.", value=text
            )
        parts = [
            self.character.format(ord(part)) if part in ("\n", "\r") else f"'{self.escape(part)}'"
            for part in re.split("([\n\r])", text)
            if part or not text
        ]
        return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"

    def modulo(self, number: str, divisor: int) -> str:
        """Return the remainder from 0 on, also of a negative number: all engines return a negative one for that."""
        return f"(({number}) % {divisor} + {divisor}) % {divisor}"

    def integer(self, value: str) -> str:
        """Return a value as an integer of 64 bits."""
        return f"CAST({value} AS {self.integer_type})"

    def text(self, value: str) -> str:
        """Return a value as text."""
        return f"CAST({value} AS {self.text_type})"


def _with_backslashes(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


_UNSIGNED = "CASE WHEN {0} LIKE '-%' THEN SUBSTR({0}, 2) ELSE {0} END"
_DIALECTS = {
    DialectName.DUCKDB: Dialect(
        microseconds="epoch_us({0})",
        payload_text="payload[{0}]",
        is_decimal="regexp_full_match({0}, '-?[0-9]+([.][0-9]+)?')",
        lacks_nul="INSTR({0}, CHR(0)) = 0",
        divide="{0} // {1}",
    ),
    DialectName.SPARK: Dialect(
        microseconds="unix_micros({0})",
        payload_text="payload[{0}]",
        is_decimal="{0} RLIKE '^-?[0-9]+([.][0-9]+)?\\\\z'",  # $ matches before a line break at the end
        lacks_nul="INSTR({0}, CHR(0)) = 0",
        divide="{0} DIV {1}",
        without_leading_zeros="TRIM(LEADING '0' FROM {0})",
        without_trailing_zeros="TRIM(TRAILING '0' FROM {0})",
        text_type="STRING",
        escape=_with_backslashes,
        has_lateral_aliases=True,
        preparation="SET spark.sql.analyzer.maxIterations = 1000;\n",  # the default is 100 steps of arithmetic
    ),
    DialectName.POSTGRES: Dialect(
        microseconds="CAST(EXTRACT(EPOCH FROM {0}) * 1000000 AS BIGINT)",
        payload_text="payload ->> {0}",
        is_decimal="{0} ~ '^-?[0-9]+([.][0-9]+)?$'",
        find="STRPOS({0}, {1})",
        text_type="TEXT",
        materialized="MATERIALIZED ",
        preparation="SET search_path TO tallybook;  -- the schema of the ledger\n",
        binary_order=' COLLATE "C"',
    ),
    DialectName.SQLITE: Dialect(
        # The seconds without their fraction, because SQLite rounds that to milliseconds.
        microseconds=(
            "CAST(strftime('%s', SUBSTR({0}, 1, 19)) AS INTEGER) * 1000000"
            " + CAST(SUBSTR(RTRIM(SUBSTR({0}, 21), 'Z') || '000000', 1, 6) AS INTEGER)"
        ),
        payload_text="(SELECT value FROM json_each(payload) WHERE key = {0})",  # -> and ->> take some keys for paths
        is_decimal=(
            f"({_UNSIGNED} GLOB '[0-9]*' AND {_UNSIGNED} GLOB '*[0-9]' AND {_UNSIGNED} NOT GLOB '*[^0-9.]*'"
            f" AND {_UNSIGNED} NOT GLOB '*.*.*')"
        ),
        character="CHAR({0})",
        integer_type="INTEGER",
        text_type="TEXT",
        materialized="MATERIALIZED ",
    ),
    DialectName.CLICKHOUSE: Dialect(
        microseconds="toUnixTimestamp64Micro({0})",
        payload_text="CASE WHEN mapContains(payload, {0}) THEN payload[{0}] END",  # '' for a key that is absent
        is_decimal="match({0}, '^-?[0-9]+([.][0-9]+)?$')",
        lacks_nul="position({0}, char(0)) = 0",
        character="char({0})",
        find="position({0}, {1})",
        divide="intDiv({0}, {1})",
        without_leading_zeros="trim(LEADING '0' FROM {0})",
        without_trailing_zeros="trim(TRAILING '0' FROM {0})",
        count_distinct="uniqExact({0})",
        integer_type="Nullable(Int64)",
        length_type="Nullable(Int32)",
        text_type="Nullable(String)",
        escape=_with_backslashes,
        # Merged into one expression, the steps of the arithmetic take up to a minute.
        settings="SETTINGS query_plan_merge_expressions = 0, max_subquery_depth = 1000",
    ),
}


def dialect_of(name: DialectName) -> Dialect:
    """Return the dialect of an engine."""
    return _DIALECTS[name]
