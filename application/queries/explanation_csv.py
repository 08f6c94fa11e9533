"""Export of an explanation as CSV, with a row for each meter event, to check a total in other tools."""

import csv
from collections.abc import Sequence
from datetime import datetime
from typing import TextIO

from ...domain.counting import counted_value
from ...domain.decimals import to_plain_string
from ...domain.timestamps import to_iso
from ..results import ExplainedEvent, Explanation, ExplanationPage, ExplanationStream
from ..spreadsheet_text import escape_formulas

COLUMNS = (
    "position", "identifier", "occurred_at", "recorded_at", "customer", "value", "verdict", "contribution",
    "superseded_by", "cancelled_at", "reason", "by", "on_behalf_of", "revision",
)  # fmt: skip


def explanation_csv(explanation: Explanation | ExplanationPage | ExplanationStream, file: TextIO) -> None:
    """Write an explanation to a text file, opened with `newline=""`: a header, then a row for each event.

    Times are RFC 3339 in UTC and numbers plain decimal text. The contributions add up to the total's value. The
    explanation's digest is the SHA-256 of a line `position,occurred_at,value` for each counted row, in their order.
    Under the formula unique_count, the value is the unique value as JSON text.

    The last columns are the revision of the rules that decided whether the event counts, and `dimension_KEY` for each
    dimension, empty for an absent optional one.

    Text that a spreadsheet would evaluate as a formula gets an apostrophe in front, because identifiers, customers and
    reasons come from outside: see `escape_formulas`.
    """
    keys = explanation.dimension_keys
    writer = csv.writer(file)
    writer.writerow((*COLUMNS, *(escape_formulas(f"dimension_{key}") for key in keys)))
    writer.writerows(_cells(event, keys) for event in explanation.events)


def _cells(event: ExplainedEvent, dimension_keys: Sequence[str]) -> tuple[str, ...]:
    return (
        str(event.position),
        _text(event.identifier),
        to_iso(event.occurred_at),
        to_iso(event.recorded_at),
        _text(event.customer),
        _value(event),
        str(event.verdict),
        to_plain_string(event.contribution),
        _text(event.superseded_by),
        _time(event.cancelled_at),
        _text(event.reason),
        _text(event.by),
        _text(event.on_behalf_of),
        str(event.revision),
        *(_text(event.dimensions.get(key)) for key in dimension_keys),
    )


def _text(text: str | None) -> str:
    return "" if text is None else escape_formulas(text)


def _value(event: ExplainedEvent) -> str:
    """Return the value as in the digest. Numbers aren't escaped: they may be negative."""
    value = counted_value(event.value, event.unique_value)
    return value if event.unique_value is None else escape_formulas(value)


def _time(at: datetime | None) -> str:
    return "" if at is None else to_iso(at)
