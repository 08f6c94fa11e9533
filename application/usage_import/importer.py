"""Import of usage: record the rows of a file in batches, each row once however often the import is repeated."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from ...domain.errors import (
    DatabasePermissionDenied,
    InvalidImportFile,
    LedgerCorrupted,
    LedgerUnavailable,
    TallybookError,
)
from ..commands.imports import RowRecorder
from ..meter_views import MeterView
from ..metering import Metering
from ..results import Outcome, Receipt
from .columns import ColumnMapping
from .files import ProgressCallback, UsageFile
from .formats import Row

BATCH_ROWS = 1_000
MAX_BATCH_SIZE = 4_000_000
"""Long rows are recorded in smaller batches: of about this many characters, so that they fit in memory."""
_MAX_LISTED_COLUMNS, _MAX_LISTED_CHARACTERS = 20, 500


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was not recorded: its first line in the file, and the error."""

    line: int
    identifier: str | None
    outcome: Outcome
    error: TallybookError


class _ParsedRow(NamedTuple):
    """The meter event of a row, or the error that it is rejected with; its line, and its identifier if it is text."""

    line: int
    identifier: str | None
    meter_event: Mapping[str, object] | TallybookError


@dataclass(slots=True)
class ImportSummary:
    """The progress of an import: rows by outcome. `generated` counts the rows whose identifier was generated."""

    file: Path
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    generated: int = 0
    seconds: float = 0.0
    run_id: str | None = None
    """The id of the import; None if it has recorded nothing."""
    first_rejected: list[RejectedRow] = field(default_factory=list[RejectedRow])
    """The first rows that were not recorded; `on_rejected` is called with all of them."""

    @property
    def not_recorded(self) -> int:
        """The number of rows that were in conflict or rejected."""
        return self.conflict + self.rejected


class UsageImporter:
    """Imports one file into a ledger.

    The identifier of a row without one is generated from the contents of the file, the event name and the number of the
    row. So the same file is recorded once, under any name, and equal rows are different meter events. A changed file is
    another file: give identifiers if rows will be added or corrected later.

    An interrupted import can be repeated: rows that are recorded already are duplicates.
    """

    def __init__(
        self,
        metering: Metering,
        file: UsageFile,
        columns: ColumnMapping,
        *,
        max_first_rejected: int = 10,
        by: str | None = None,
        recorder: RowRecorder | None = None,
    ) -> None:
        """Raise MeterNotFound if the meter of all rows does not exist, and InvalidImportFile if a column is missing.

        Without a `recorder`, the rows are recorded as an import of `metering.imports`.
        """
        self.metering = metering
        self.file = file
        self.columns = columns
        self.max_first_rejected = max_first_rejected
        self.summary = ImportSummary(file.path)
        self.recorder = recorder or metering.imports.start(str(file.path.name), file.digest.hex(), by=by)
        self._get_meter = lru_cache(metering.meters.get)
        self._identifier_prefix = lru_cache(partial(_hash_prefix, file.digest))
        _check_columns(file, columns, None if columns.event_name is None else self._get_meter(columns.event_name))

    def run(
        self, *, on_rejected: Callable[[RejectedRow], None] | None = None, advance: ProgressCallback | None = None
    ) -> ImportSummary:
        """Record the rows and return their number by outcome. An invalid row never affects the others."""
        started = time.monotonic()
        batch: list[_ParsedRow] = []
        size = 0
        for number, row in enumerate(self.file.rows(advance), 1):
            batch.append(self._parse(number, row))
            size += row.size
            if len(batch) == BATCH_ROWS or size >= MAX_BATCH_SIZE:
                self._record(batch, on_rejected)
                batch, size = [], 0
                self.summary.seconds = time.monotonic() - started
        self._record(batch, on_rejected)
        summary = self.summary
        self.recorder.finish(
            rows=summary.rows, accepted=summary.accepted, duplicates=summary.duplicate, conflicts=summary.conflict,
            rejected=summary.rejected,
        )  # fmt: skip
        summary.seconds = time.monotonic() - started
        return summary

    def _record(self, batch: list[_ParsedRow], on_rejected: Callable[[RejectedRow], None] | None) -> None:
        meter_events = [row.meter_event for row in batch if not isinstance(row.meter_event, TallybookError)]
        receipts = iter(self.recorder.record_many(meter_events))
        self.summary.run_id = self.recorder.run_id
        for row in batch:
            error = row.meter_event
            if isinstance(error, TallybookError):
                receipt = Receipt(row.identifier, None, Outcome.REJECTED, error)
            else:
                receipt = next(receipts)
            self._count(row.line, receipt, on_rejected)

    def _parse(self, number: int, row: Row) -> _ParsedRow:
        identifier = row.cells.get(self.columns.identifier_column)
        return _ParsedRow(row.line, identifier if isinstance(identifier, str) else None, self._meter_event(number, row))

    def _meter_event(self, number: int, row: Row) -> Mapping[str, object] | TallybookError:
        """Return the meter event of a row, or the error that it is rejected with."""
        if row.error is not None:
            return row.error
        try:
            meter_event = self.columns.parse_row(row.cells, self._get_meter)
        except (LedgerCorrupted, LedgerUnavailable, DatabasePermissionDenied):
            raise  # nothing is wrong with the row
        except TallybookError as error:
            return error
        event_name = meter_event["event_name"]
        if meter_event["identifier"] is None and isinstance(event_name, str):
            meter_event["identifier"] = f"{self._identifier_prefix(event_name)}-{number:09d}"
            self.summary.generated += 1
        return meter_event

    def _count(self, line: int, receipt: Receipt, on_rejected: Callable[[RejectedRow], None] | None) -> None:
        summary = self.summary
        summary.rows += 1
        setattr(summary, receipt.outcome, getattr(summary, receipt.outcome) + 1)
        if receipt.error is None:
            return
        rejected_row = RejectedRow(line, receipt.identifier, receipt.outcome, receipt.error)
        if len(summary.first_rejected) < self.max_first_rejected:
            summary.first_rejected.append(rejected_row)
        if on_rejected is not None:
            on_rejected(rejected_row)


def _hash_prefix(digest: bytes, event_name: str) -> str:
    """Return the prefix of generated identifiers. With row numbers they sort as in the file, to insert fast."""
    return hashlib.sha256(digest + event_name.encode(errors="surrogatepass")).hexdigest()[:24]


def _check_columns(file: UsageFile, columns: ColumnMapping, meter: MeterView | None) -> None:
    if file.columns is None:
        return
    for column in columns.required_columns(meter):
        if column not in file.columns:
            raise InvalidImportFile(
                f"{file.path}, line 1: there is no column {column!r}; there are {_list_columns(file.columns)}.",
                field=column,
                value=str(file.path),
            )


def _list_columns(columns: list[str]) -> str:
    shown = ", ".join(columns[:_MAX_LISTED_COLUMNS])
    more = len(columns) - _MAX_LISTED_COLUMNS
    return shown[:_MAX_LISTED_CHARACTERS] + (f" and {more:,} more" if more > 0 else "")
