"""How an uploaded file is read, and what a check or an import of it has found; both are stored with it."""

from datetime import datetime

import msgspec

from ...domain.calendar import get_timezone
from ..validation import require_choice
from .columns import ColumnMapping
from .formats import FileDialect, FileFormat, FileOptions
from .results import ImportSummary
from .row_mapper import RowFormat
from .timestamps import TimestampFormat, TimestampReader
from .values import NumberFormat

MAX_SHOWN_CHARACTERS = 200
"""Of the identifier of a rejected row in a report. The file of rejected rows has all of it."""


class ImportOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How to read a file: the options of `tallybook import`, under the same names.

    `payload_columns` are texts like COLUMN or COLUMN=KEY.
    """

    customer: str | None = None
    customer_column: str | None = None
    date_format: str | None = None
    decimal: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    event_name: str | None = None
    format: str | None = None
    header_row: int | None = None
    identifier_column: str | None = None
    payload_columns: tuple[str, ...] = ()
    sheet: str | None = None
    source: str = ""
    thousands: str | None = None
    timestamp_column: str = "timestamp"
    timestamp_format: str = "auto"
    timezone: str | None = None
    value_column: str | None = None

    def file_options(self) -> FileOptions:
        """Return how to open the file. Raises InvalidParameter."""
        chosen = None if self.format is None else require_choice(self.format, "format", FileFormat)
        return FileOptions(chosen, self.encoding, self.delimiter, self.header_row, self.sheet)

    def row_format(self) -> RowFormat:
        """Return how to read the rows. Raises InvalidParameter or UnknownTimezone."""
        pairs = (text.partition("=") for text in self.payload_columns)
        columns = ColumnMapping(
            event_name=self.event_name, timestamp=self.timestamp_column, identifier=self.identifier_column,
            value=self.value_column, customer=self.customer_column, customer_name=self.customer,
            payload={column: key or column for column, _, key in pairs},
        )  # fmt: skip
        timestamps = TimestampReader(
            require_choice(self.timestamp_format, "timestamp_format", TimestampFormat),
            date_format=self.date_format,
            timezone=None if self.timezone is None else get_timezone(self.timezone),
        )
        return RowFormat(columns, NumberFormat(self.decimal, self.thousands), timestamps)


class ReportedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of the first rows, as it is recorded."""

    line: int
    event_name: str
    timestamp: datetime
    identifier: str | None
    payload: dict[str, str]


class ReportedRejection(msgspec.Struct, frozen=True, kw_only=True):
    """One of the first rows that are not recorded."""

    line: int
    identifier: str | None
    outcome: str
    code: str
    message: str


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a file was read, its rows by outcome, and the first of them. With `dry_run`, nothing was recorded."""

    dry_run: bool
    dialect: FileDialect
    rows: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    first_rows: list[ReportedRow]
    first_rejected: list[ReportedRejection]
    import_run: str | None = None

    @classmethod
    def of(cls, summary: ImportSummary, *, dry_run: bool) -> "ImportReport":
        """Return the report of an import."""
        return cls(
            dry_run=dry_run, dialect=summary.dialect, rows=summary.rows, accepted=summary.accepted,
            duplicate=summary.duplicate, conflict=summary.conflict, rejected=summary.rejected,
            first_rows=[
                ReportedRow(
                    line=row.line, event_name=row.event_name, timestamp=row.timestamp, identifier=row.identifier,
                    payload={key: str(value) for key, value in row.payload.items()},
                )
                for row in summary.first_rows
            ],
            first_rejected=[
                ReportedRejection(
                    line=row.line, identifier=_shorten(row.identifier), outcome=str(row.outcome), code=row.error.code,
                    message=row.error.message,
                )
                for row in summary.first_rejected
            ],
            import_run=None if dry_run else summary.run_id,
        )  # fmt: skip


def _shorten(identifier: str | None) -> str | None:
    """Return the start of an identifier, which is a text of any length in a row that was rejected."""
    if identifier is None or len(identifier) <= MAX_SHOWN_CHARACTERS:
        return identifier
    return f"{identifier[:MAX_SHOWN_CHARACTERS]}…"
