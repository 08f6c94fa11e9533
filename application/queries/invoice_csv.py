"""Export of invoice lines as CSV, for an invoicing system or a spreadsheet."""

import csv
from typing import TextIO

from ...domain.decimals import to_plain_string
from ...domain.timestamps import to_iso
from ..invoice_results import InvoiceLine, InvoiceLines
from ..spreadsheet_text import escape_formulas

COLUMNS = (
    "kind", "customer", "meter", "start", "end", "quantity", "billable", "position", "digest", "previously_billed",
    "is_late",
)  # fmt: skip


def invoice_lines_csv(invoice_lines: InvoiceLines, file: TextIO) -> None:
    """Write invoice lines to a text file, opened with `newline=""`: a header, then a row for each line.

    Times are RFC 3339 in UTC and numbers plain decimal text. `is_late` is true or false. The last columns are
    `dimension_KEY` for each dimension, empty for an absent optional one and for a line that isn't of a group.

    Text that a spreadsheet would evaluate as a formula gets an apostrophe in front: see `escape_formulas`.
    """
    keys = tuple(dict.fromkeys(key for line in invoice_lines.lines for key in line.dimensions or ()))
    writer = csv.writer(file)
    writer.writerow((*COLUMNS, *(escape_formulas(f"dimension_{key}") for key in keys)))
    writer.writerows(_cells(line, keys) for line in invoice_lines.lines)


def _cells(line: InvoiceLine, keys: tuple[str, ...]) -> tuple[str, ...]:
    dimensions = line.dimensions or {}
    return (
        str(line.kind),
        escape_formulas(line.customer),
        escape_formulas(line.event_name),
        to_iso(line.start),
        to_iso(line.end),
        to_plain_string(line.quantity),
        to_plain_string(line.billable),
        str(line.position),
        line.digest,
        "" if line.previously_billed is None else to_plain_string(line.previously_billed),
        str(line.is_late).lower(),
        *(escape_formulas(dimensions.get(key) or "") for key in keys),
    )
