"""Import of usage: check a file, then record its rows in batches, each row once however often that is repeated."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from itertools import islice, repeat
from typing import cast

from ...domain.errors import InvalidImportFile, TallybookError
from ...domain.meter_event_input import parse_meter_event
from ...domain.rules import Rules
from ...domain.rules_schedule import RulesSchedule
from ..commands.imports import RowRecorder
from ..commands.receipts import RecordedBatch
from ..metering import Metering
from ..results import Outcome, Receipt, Receipts
from ..storage.key_value import KeyValueEntry
from ..storage.overlapped_work import overlapped_work
from .batch_parser import BatchParser, ParsedBatch, with_next
from .column_mapper import ColumnPlan
from .columns import ColumnMapping
from .files import ProgressCallback, UsageFile
from .formats import OBJECTS_PER_COLLECTION, Row, RowBatch
from .json_rows import PAYLOAD_PREFIX
from .meter_lookup import MeterLookup
from .results import BatchOutcomes, ImportSummary, PreviewRow, RejectedRow
from .row_mapper import RowFormat, RowMapper
from .row_names import RowNames

_MAX_LISTED_COLUMNS, _MAX_LISTED_CHARACTERS = 20, 500
MAX_PREVIEW_ROWS = 5

OnRejected = Callable[[RejectedRow, Row], None]
"""Called with each row that is not recorded, and with what was read."""
AttachToBatch = Callable[[BatchOutcomes, datetime], Sequence[KeyValueEntry]]
"""Returns key-value entries to store with a batch, given the outcomes of its rows and the time. See `record_many`."""


class UsageImporter:
    """Imports one file into a ledger.

    A row without an identifier gets one from its content and the number of its occurrence: see `RowNames`. So the same
    file is recorded once, under any name, also after it has grown, and equal rows are different meter events. `source`
    distinguishes files whose equal rows are different usage.

    An interrupted import can be repeated: rows that are recorded already are duplicates.
    """

    def __init__(
        self,
        metering: Metering,
        file: UsageFile,
        row_format: RowFormat,
        *,
        source: str = "",
        max_first_rejected: int = 10,
        by: str | None = None,
        recorder: RowRecorder | None = None,
        attach: AttachToBatch | None = None,
        skipped_rows: int = 0,
        is_checked: bool = False,
    ) -> None:
        """Raise MeterNotFound if the meter of all rows does not exist, and InvalidImportFile if a column is missing.

        Without a `recorder`, the rows are recorded as an import of `metering.imports`. `skipped_rows` of the first rows
        were recorded before. With `is_checked`, the file is read only once, so that a row with an unclear cell is
        rejected like any other.
        """
        self.metering = metering
        self.file = file
        self.max_first_rejected = max_first_rejected
        self.summary = ImportSummary(file.path, file.dialect)
        self.recorder = recorder or metering.imports.start(str(file.path.name), file.digest.hex(), by=by)
        self._columns = columns = row_format.columns
        numbers = replace(row_format.numbers, is_semicolon_separated=file.dialect.delimiter == ";")
        self._row_format = row_format = replace(row_format, numbers=numbers)
        get_schedule = lru_cache(MeterLookup(metering).schedule)
        self._mapper = RowMapper(row_format, get_schedule, file.columns)
        names = RowNames(source, columns.customer_name, file.columns)
        self._parser = BatchParser(row_format, self._mapper, names, file.columns)
        self._attach = attach
        self._skipped_rows = skipped_rows
        self._is_checked = is_checked
        self._prepared: ParsedBatch | None = None
        """The next batch, if it was prepared while the one before was inserted."""
        _check_columns(file, columns, None if columns.event_name is None else get_schedule(columns.event_name))

    def check(self, advance: ProgressCallback | None = None) -> None:
        """Read the whole file. Raise InvalidImportFile if it is malformed.

        Also if a timestamp or a number can be read in several ways, or needs an option: then all others may be wrong.
        """
        first_unclear: dict[type[TallybookError], tuple[int, TallybookError]] = {}
        with _rare_garbage_collection():
            for line, error in self._find_unclear(advance):
                first_unclear.setdefault(type(error), (line, error))
        if first_unclear:
            problems = [f"line {line}: {error.message}" for line, error in first_unclear.values()]
            field = next(iter(first_unclear.values()))[1].field
            message = f"{self.file.path}: nothing was recorded. {' '.join(problems)}"
            raise InvalidImportFile(message, field=field, value=str(self.file.path))
        self._is_checked = True

    def _find_unclear(self, advance: ProgressCallback | None) -> Iterator[tuple[int, TallybookError]]:
        """Yield the errors of unclear cells, with their lines."""
        for batch in self.file.unclear_batches(self._row_format, self._mapper.keys_of, advance):
            for row in batch.rows:
                if row.error is None:
                    yield from zip(repeat(row.line), self._mapper.find_unclear(row.cells))

    def run(
        self, *, on_rejected: OnRejected | None = None, advance: ProgressCallback | None = None
    ) -> ImportSummary:  # fmt: skip
        """Check the file unless it is checked, record the rows and return their number by outcome.

        An invalid row never affects the others. Raises InvalidImportFile, with nothing recorded.
        """
        if not self._is_checked:
            self.check()
        with _rare_garbage_collection():
            self._record_rows(on_rejected, advance)
        summary = self.summary
        self.recorder.finish(
            rows=summary.rows, accepted=summary.accepted, duplicates=summary.duplicate, conflicts=summary.conflict,
            rejected=summary.rejected,
        )  # fmt: skip
        return summary

    def _record_rows(self, on_rejected: OnRejected | None, advance: ProgressCallback | None) -> None:
        """Record the rows in batches. While the database inserts one, the next one is prepared."""
        started = time.monotonic()
        progress = 0, 0

        def report(read: int, size: int) -> None:
            nonlocal progress
            progress = read, size
            if advance is not None:
                advance(read, size)

        for planned, following in with_next(self._planned_batches(report)):
            report(*progress)  # again, so that the caller can end the import before each batch
            parsed, self._prepared = self._prepared or self._parser.parse(*planned), None
            with overlapped_work(partial(self._prepare, following)):
                self._record(parsed, on_rejected)
            self.summary.seconds = time.monotonic() - started

    def _prepare(self, planned: tuple[RowBatch, ColumnPlan | None] | None) -> None:
        """Parse and decide the next batch, if there is one and neither takes a query."""
        parsed = None if planned is None else self._parser.parse_columns(*planned)
        if parsed is not None:
            self._prepared = parsed._replace(valid=self.recorder.prepare(parsed.valid))

    def _planned_batches(self, advance: ProgressCallback) -> Iterator[tuple[RowBatch, ColumnPlan | None]]:
        """Yield the rows that weren't recorded before, with how to map them by columns."""
        skipped = self._skipped_rows
        for batch in self.file.batches(advance):
            if skipped:
                rows, skipped = batch.rows[skipped:], max(0, skipped - len(batch))
                for row in batch.rows[: len(batch) - len(rows)]:
                    self._parser.skip(row)
                batch = RowBatch(rows)  # noqa: PLW2901
            if len(batch):
                yield batch, self._parser.plan(batch)

    def _record(self, parsed: ParsedBatch, on_rejected: OnRejected | None) -> None:
        attach = self._attach
        outcomes: BatchOutcomes | None = None

        def attach_to_receipts(receipts: Sequence[Receipt], at: datetime) -> Sequence[KeyValueEntry]:
            nonlocal outcomes
            assert attach is not None
            given = Receipts(receipts)
            outcomes = self._outcomes(parsed, RecordedBatch(given.accepted, lambda: given))
            return attach(outcomes, at)

        recorded = self.recorder.record_batch(parsed.valid, attach=None if attach is None else attach_to_receipts)
        self.summary.run_id = self.recorder.run_id
        self._preview(parsed, recorded)
        outcomes = outcomes or self._outcomes(parsed, recorded)
        self.summary.add(outcomes)
        for rejected_row, row in outcomes.rejected:
            if len(self.summary.first_rejected) < self.max_first_rejected:
                self.summary.first_rejected.append(rejected_row)
            if on_rejected is not None:
                on_rejected(rejected_row, row)
        self.summary.generated += len(parsed.generated)
        self.summary.generated_duplicates += len(outcomes.generated_duplicates)
        self.summary.cancelled_duplicates += self.metering.imports.count_cancelled(outcomes.generated_duplicates)

    def _preview(self, parsed: ParsedBatch, recorded: RecordedBatch) -> None:
        """Add the first rows that are recorded to the summary."""
        first_rows = self.summary.first_rows
        if len(first_rows) >= MAX_PREVIEW_ROWS:
            return
        lines_and_events = (
            (line, event)
            for line, event in zip(parsed.batch.lines, parsed.meter_events, strict=True)
            if not isinstance(event, TallybookError)
        )
        recorded_events = (
            (line, raw_event)
            for (line, raw_event), receipt in zip(lines_and_events, recorded.receipts, strict=True)
            if receipt.error is None
        )
        for line, raw_event in islice(recorded_events, MAX_PREVIEW_ROWS - len(first_rows)):
            event = parse_meter_event(raw_event)
            assert event.timestamp is not None  # the mapper requires one
            first_rows.append(PreviewRow(line, event.event_name, event.timestamp, event.identifier, event.payload))

    def _outcomes(self, parsed: ParsedBatch, recorded: RecordedBatch) -> BatchOutcomes:
        """Return the outcomes of the rows of a batch, given those that are meter events as they were recorded."""
        count = len(parsed.batch)
        if recorded.accepted == count:
            return BatchOutcomes(count, Counter({Outcome.ACCEPTED: count}))
        result = BatchOutcomes(count, Counter())
        remaining = iter(recorded.receipts)
        for index, (row, event) in enumerate(zip(parsed.batch.rows, parsed.meter_events, strict=True)):
            if isinstance(event, TallybookError):
                receipt = Receipt(self._identifier_of(row), None, Outcome.REJECTED, event)
            else:
                receipt = next(remaining)
            result.counts[receipt.outcome] += 1
            if receipt.error is not None:
                result.rejected.append((RejectedRow(row.line, receipt.identifier, receipt.outcome, receipt.error), row))
            elif index in parsed.generated and receipt.outcome is Outcome.DUPLICATE:
                result.generated_duplicates.append(cast(str, receipt.identifier))
        return result

    def _identifier_of(self, row: Row) -> str | None:
        """Return the identifier of a row that is rejected, if it is text."""
        identifier = row.cells.get(self._columns.identifier_column)
        return identifier if isinstance(identifier, str) else None


@contextmanager
def _rare_garbage_collection() -> Generator[None]:
    """Search for reference cycles less often."""
    before = gc.get_threshold()
    if before[0] >= OBJECTS_PER_COLLECTION:  # another import in this process has set it, and sets it back
        yield
        return
    gc.set_threshold(OBJECTS_PER_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _check_columns(file: UsageFile, columns: ColumnMapping, schedule: RulesSchedule | None) -> None:
    """Raise InvalidImportFile if a column is missing that all rows need. `schedule` are the rules of all rows."""
    if file.columns is None:
        return
    rules = None if schedule is None else schedule.newest.rules
    required = columns.required_columns(rules)
    if schedule is not None and any(columns.required_columns(part.rules) != required for part in schedule.parts):
        rules, required = None, columns.required_columns(None)  # those of a row depend on its time
    missing = next((column for column in required if not _has_column(file.columns, column)), None)
    if missing is not None:
        line = file.dialect.header_line
        location = f"{file.path}, line {line}" if line else str(file.path)
        raise InvalidImportFile(
            f"{location}: there is no column {missing!r}; there are {_list_columns(file.columns)}."
            + (_header_hint(file, required) or _option_hint(missing, columns, rules)),
            field=missing,
            value=str(file.path),
        )


def _has_column(columns: Sequence[str], column: str) -> bool:
    """Return whether a column exists, or the one that a path begins in."""
    return column in columns or any(column[:end] in columns for end, character in enumerate(column) if character == ".")


def _header_hint(file: UsageFile, required: Sequence[str]) -> str:
    """Return a sentence that names another line with all required columns, if there is one."""
    line = file.find_header_line(required)
    return "" if line is None else f" Line {line} has it: name that line with header_row={line}."


def _option_hint(missing: str, columns: ColumnMapping, rules: Rules | None) -> str:
    """Return a sentence that names the option for a column that has another name in this file."""
    options = {columns.timestamp: "timestamp_column='COLUMN'", "event_name": "event_name='METER'"}
    if rules is not None:
        options[PAYLOAD_PREFIX + rules.customer_key] = "customer_column='COLUMN'"
        options[PAYLOAD_PREFIX + rules.value_key] = "value_column='COLUMN'"
    option = options.get(missing)
    if option is None:
        return ""
    what = "the meter of all rows" if missing == "event_name" else "the column that has it"
    return f" Name {what}: {option}."


def _list_columns(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:_MAX_LISTED_COLUMNS])
    more = len(columns) - _MAX_LISTED_COLUMNS
    return shown[:_MAX_LISTED_CHARACTERS] + (f" and {more:,} more" if more > 0 else "")
