"""Export of an explanation as CSV, with a row for each meter event, to check a total in other tools."""

import csv
from datetime import datetime
from decimal import Decimal
from typing import TextIO

from ...domain.decimals import to_plain_string
from ...domain.timestamps import to_iso
from ..results import ExplainedEvent, Explanation, ExplanationStream
from ..spreadsheet_text import escape_formulas

COLUMNS = (
    "position", "identifier", "occurred_at", "recorded_at", "customer", "value", "verdict", "contribution",
    "superseded_by", "cancelled_at", "reason", "by",
)  # fmt: skip


def explanation_csv(explanation: Explanation | ExplanationStream, file: TextIO) -> None:
    """Write an explanation to a text file, opened with `newline=""`: a header, then a row for each event.

    Times are RFC 3339 in UTC and numbers plain decimal text. The contributions add up to the total's value. The
    explanation's digest is the SHA-256 of a line `position,occurred_at,value` for each counted row, in their order.

    Text that a spreadsheet would evaluate as a formula gets an apostrophe in front, because identifiers, customers and
    reasons come from outside: see `escape_formulas`.
    """
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    writer.writerows(map(_cells, explanation.events))


def _cells(event: ExplainedEvent) -> tuple[str, ...]:
    return (
        str(event.position),
        _text(event.identifier),
        to_iso(event.occurred_at),
        to_iso(event.recorded_at),
        _text(event.customer),
        _number(event.value),
        str(event.verdict),
        _number(event.contribution),
        _text(event.superseded_by),
        _time(event.cancelled_at),
        _text(event.reason),
        _text(event.by),
    )


def _text(text: str | None) -> str:
    return "" if text is None else escape_formulas(text)


def _number(number: Decimal | None) -> str:
    return "" if number is None else to_plain_string(number)


def _time(at: datetime | None) -> str:
    return "" if at is None else to_iso(at)
