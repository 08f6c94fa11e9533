"""A statement with what a reader needs to run it: what it computes, by which rules, and the relation that it reads."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ....domain.timestamps import to_iso
from .dialects import DialectName, dialect_of
from .totals import TotalsQuery, totals_statement
from .views import relation_view


@dataclass(frozen=True, slots=True)
class SqlDocument:
    """SQL for one engine that computes totals as they were known at a position of the ledger.

    `statement` is one query of the relation `ledger_events`. `view` creates this relation from the table of a ledger,
    or from the files of an archive. `text` is a whole script: comments, the view and the statement.
    """

    dialect: DialectName
    position: int
    statement: str
    view: str
    text: str


def sql_document(query: TotalsQuery, name: DialectName, start: datetime, end: datetime) -> SqlDocument:
    """Return the SQL of a query of totals in [start, end). Raises InvalidParameter if it can't be exact."""
    dialect, view = dialect_of(name), relation_view(name)
    statement = totals_statement(query, dialect)
    comments = "".join(f"-- {line}\n" for line in _comments(query, name, start, end))
    text = f"{comments}\n{dialect.preparation}{view}\n{statement}"
    return SqlDocument(name, query.selection.position, statement, view, text)


def _comments(query: TotalsQuery, name: DialectName, start: datetime, end: datetime) -> Iterator[str]:
    """Yield what a statement computes, and from what."""
    selection, limits = query.selection, query.limits
    of_whom = "all customers" if selection.customer is None else f"the customer {_quoted(selection.customer)}"
    what = "The total of each customer" if query.by_customer else f"The total of {of_whom}"
    yield f"{what} on the meter {_quoted(selection.event_name)}, for {name}."
    yield f"Usage from {to_iso(start)} until {to_iso(end)}, as known at the ledger position {selection.position}."
    if selection.recorded_name != selection.event_name:
        yield f"The meter is derived: it counts the events of {_quoted(selection.recorded_name)}."
    for part in selection.parts:
        yield f"Revision {part.effective.revision} of the rules: {part.effective.rules.model_dump_json()}"
    for key, values in selection.where.items():
        texts = sorted(values, key=lambda value: (value is not None, value or ""))
        yield f"Only usage in which the dimension {_quoted(key)} is one of {json.dumps(texts)}."
    for number, key in enumerate(query.group_by, 1):
        yield f"The column group_{number} is the dimension {_quoted(key)}."
    yield "All columns but the count are texts, and the numbers are exact."
    yield "The statement is made for the usage at its position: the columns are NULL if a total has more than"
    yield f"{limits.max_count} events, or values with more than {limits.whole_digits} digits before or "
    yield f"{limits.fraction_digits} after the point."


def _quoted(text: str) -> str:
    """Return a text on one line."""
    return json.dumps(text)
