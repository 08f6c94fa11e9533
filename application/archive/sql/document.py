"""A statement with what a reader needs to run it: what it computes, by which rules, and the relation that it reads."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ....domain.rules import Rules
from ....domain.timestamps import to_iso
from .dialects import DialectName, dialect_of
from .digest_lines import digest_lines_statement
from .statement import UsageSelection
from .totals_statement import TotalsQuery, ValueLimits, totals_statement
from .views import relation_view


@dataclass(frozen=True, slots=True)
class SqlDocument:
    """SQL for one engine that computes totals, or the lines of their digest, as known at a position of the ledger.

    `statement` is one query of the relation `ledger_events`. `view` creates this relation from the table of a ledger,
    or from the files of an archive. `text` is a whole script: comments, the view and the statement.
    """

    dialect: DialectName
    position: int
    statement: str
    view: str
    text: str


def totals_document(query: TotalsQuery, name: DialectName, start: datetime, end: datetime) -> SqlDocument:
    """Return the SQL of a query of totals in [start, end). Raises InvalidParameter if it can't be exact."""
    selection, limits = query.selection, query.limits
    what = "The total of each customer" if query.by_customer else f"The total of {_of_whom(selection)}"
    comments = [
        *_comments(f"{what} on the meter", selection, name, start, end),
        *(f"The column {column} is the dimension {_quoted(key)}." for column, key in query.dimensions.items()),
        "All columns but the count are texts, and the numbers are exact.",
        "The statement is made for the usage at its position. The columns are NULL if a total has more than",
        f"{limits.max_count} events, or values with more digits than {_digits(limits)}.",
    ]
    return _document(totals_statement(query, dialect_of(name)), selection, name, comments)


def lines_document(
    selection: UsageSelection, rules: Rules, name: DialectName, start: datetime, end: datetime
) -> SqlDocument:
    """Return the SQL for the lines of the digest of a total in [start, end)."""
    comments = [
        *_comments(f"The events that count for {_of_whom(selection)} on the meter", selection, name, start, end),
        "The SHA-256 of the lines is the digest of the total, as an explanation or a closed period has it.",
    ]
    return _document(digest_lines_statement(selection, rules, dialect_of(name)), selection, name, comments)


def _digits(limits: ValueLimits) -> str:
    return f"{limits.whole_digits} before or {limits.fraction_digits} after the point"


def _document(statement: str, selection: UsageSelection, name: DialectName, comments: Sequence[str]) -> SqlDocument:
    view, preparation = relation_view(name), dialect_of(name).preparation
    text = "".join(f"-- {line}\n" for line in comments) + f"\n{preparation}{view}\n{statement}"
    return SqlDocument(name, selection.position, statement, view, text)


def _of_whom(selection: UsageSelection) -> str:
    return "all customers" if selection.customer is None else f"the customer {_quoted(selection.customer)}"


def _comments(what: str, selection: UsageSelection, name: DialectName, start: datetime, end: datetime) -> Iterator[str]:
    """Yield what a statement computes, and from what."""
    yield f"{what} {_quoted(selection.event_name)}, for {name}."
    yield f"Usage from {to_iso(start)} until {to_iso(end)}, as known at the ledger position {selection.position}."
    if selection.recorded_name != selection.event_name:
        yield f"The meter is derived: it counts the events of {_quoted(selection.recorded_name)}."
    for part in selection.parts:
        yield f"Revision {part.effective.revision} of the rules: {part.effective.rules.model_dump_json()}"
    for key, values in selection.where.items():
        texts = sorted(values, key=lambda value: (value is not None, value or ""))
        yield f"Only usage in which the dimension {_quoted(key)} is one of {json.dumps(texts)}."


def _quoted(text: str) -> str:
    """Return a text on one line."""
    return json.dumps(text)
