"""Importing usage: the rows of a file are recorded in batches, each exactly once however often it is tried."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

from ..domain.errors import InvalidImportFile, LedgerDamaged, LedgerUnavailable, NotPermitted, TallybookError
from .metering import Metering
from .results import MeterView, Outcome, Receipt
from .usage_columns import Columns
from .usage_files import Advance, UsageFile
from .usage_formats import Row

BATCH_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not recorded: where it begins in the file, and why."""

    line: int
    identifier: str | None
    outcome: Outcome
    error: TallybookError


@dataclass(slots=True)
class ImportSummary:
    """How far an import has come. `generated` counts the rows that had no identifier and were given one."""

    file: Path
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    generated: int = 0
    seconds: float = 0.0
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    """The first of them; all are handed to `on_refusal`."""

    @property
    def refused(self) -> int:
        """How many rows were not recorded."""
        return self.conflict + self.rejected


class UsageImport:
    """The import of one file into a ledger.

    A row without an identifier is given one made of the contents of the whole file, its event name and its number in
    the file. So the same file, under any name, is recorded once, and equal rows of it are uses of their own. A file
    that was changed is another file: where rows are to be added or corrected later, give identifiers.

    Interrupted at any moment, it can be started again: what was recorded is found to be there.
    """

    def __init__(self, metering: Metering, file: UsageFile, columns: Columns, *, first_refusals: int = 10) -> None:
        """Raises NoMeter for the meter of all rows, and InvalidImportFile where a CSV lacks a column."""
        self.metering = metering
        self.file = file
        self.columns = columns
        self.first_refusals = first_refusals
        self.summary = ImportSummary(file.path)
        self._meter_of = lru_cache(metering.meter)
        self._name_of = lru_cache(partial(_file_name, file.digest))
        _check_columns(file, columns, None if columns.event_name is None else self._meter_of(columns.event_name))

    def run(
        self, *, on_refusal: Callable[[Refusal], None] | None = None, advance: Advance | None = None
    ) -> ImportSummary:
        """Record the rows; give how many became what. One bad row never fails its neighbours."""
        began = time.monotonic()
        numbered = enumerate(self.file.rows(advance), 1)
        while batch := list(islice(numbered, BATCH_ROWS)):
            self._record(batch, on_refusal)
            self.summary.seconds = time.monotonic() - began
        return self.summary

    def _record(self, batch: list[tuple[int, Row]], on_refusal: Callable[[Refusal], None] | None) -> None:
        read = [self._report(number, row) for number, row in batch]
        receipts = iter(self.metering.record_many([one for one in read if not isinstance(one, TallybookError)]))
        for (_, row), one in zip(batch, read, strict=True):
            receipt = self._rejected(row, one) if isinstance(one, TallybookError) else next(receipts)
            self._count(row, receipt, on_refusal)

    def _report(self, number: int, row: Row) -> Mapping[str, object] | TallybookError:
        """The report in a row, or why there is none."""
        if row.error is not None:
            return row.error
        try:
            report = self.columns.report(row.cells, self._meter_of)
        except (LedgerDamaged, LedgerUnavailable, NotPermitted):
            raise  # nothing is wrong with the row
        except TallybookError as error:
            return error
        event_name = report["event_name"]
        if report["identifier"] is None and isinstance(event_name, str):
            report["identifier"] = f"{self._name_of(event_name)}-{number:09d}"
            self.summary.generated += 1
        return report

    def _count(self, row: Row, receipt: Receipt, on_refusal: Callable[[Refusal], None] | None) -> None:
        summary = self.summary
        summary.rows += 1
        setattr(summary, receipt.outcome, getattr(summary, receipt.outcome) + 1)
        if receipt.error is None:
            return
        refusal = Refusal(row.line, receipt.identifier, receipt.outcome, receipt.error)
        if len(summary.refusals) < self.first_refusals:
            summary.refusals.append(refusal)
        if on_refusal is not None:
            on_refusal(refusal)

    def _rejected(self, row: Row, error: TallybookError) -> Receipt:
        identifier = row.cells.get(self.columns.identifier_column)
        return Receipt(identifier if isinstance(identifier, str) else None, None, Outcome.REJECTED, error)


def _file_name(digest: bytes, event_name: str) -> str:
    """What the rows of a file are named after: their text order is that of the file, which inserts fastest."""
    return hashlib.sha256(digest + event_name.encode(errors="surrogatepass")).hexdigest()[:24]


def _check_columns(file: UsageFile, columns: Columns, meter: MeterView | None) -> None:
    if file.columns is None:
        return
    for column in columns.required(meter):
        if column not in file.columns:
            raise InvalidImportFile(
                f"{file.path}, line 1: there is no column {column!r}; there are {', '.join(file.columns)}.",
                field=column,
                value=str(file.path),
            )
