"""The limits of the values that a statement is made for, in SQL, where no ledger knows them."""

from .counted_events import add_counted_events
from .dialects import Dialect
from .number_text import fraction_digits, whole_digits
from .statement import Statement, UsageSelection, select


def limits_statement(selection: UsageSelection, dialect: Dialect, *, has_numbers: bool) -> str:
    """Return the statement for the fields of `ValueLimits` of the totals of each customer."""
    statement = Statement(dialect)
    source = add_counted_events(statement, selection, ())
    lengths = ["1 AS whole", "0 AS fraction"]
    if has_numbers:
        lengths = [
            f"LENGTH({whole_digits(dialect, 'value')}) AS whole",
            f"LENGTH({fraction_digits(dialect, 'value')}) AS fraction",
        ]
    source = statement.add("value_lengths", select(["customer", *lengths], source))
    columns = ["MAX(whole) AS whole", "MAX(fraction) AS fraction", "COUNT(*) AS event_count"]
    source = statement.add("lengths_by_customer", select(columns, source, (), "GROUP BY customer"))
    largest = ["COALESCE(MAX(whole), 1)", "COALESCE(MAX(fraction), 0)", "COALESCE(MAX(event_count), 1)"]
    return statement.text(select(largest, source))
