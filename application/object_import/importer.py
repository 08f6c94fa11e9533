"""ObjectImporter: records the rows of all new objects below a URL. One call is one run, which can be repeated."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING, BinaryIO, cast

from ...domain.errors import InvalidRequest, InvalidUsageSource, NotFound, UsageSourceUnavailable
from ...domain.timestamps import ensure_utc
from ..metering import Metering
from ..storage.key_value import EntryExists, KeyValueEntry
from ..usage_import.files import ProgressCallback, open_usage_file
from ..usage_import.formats import FileLimits, FileOptions
from ..usage_import.importer import UsageImporter
from ..usage_import.results import BatchOutcomes, RejectedRow
from ..usage_import.row_mapper import RowFormat
from ..uuid7 import uuid7
from .object_log import ObjectLog
from .results import ObjectImport, ObjectReport, ObjectStatus, RejectedObjectRow
from .stored_object import ObjectChanged, StoredObject

if TYPE_CHECKING:
    from .bucket import Bucket

MAX_REJECTED_ROWS = 100
"""How many rejected rows of an object are stored with their error."""
DEFAULT_LIMITS = FileLimits(max_bytes=16 << 30, max_rows=200_000_000)
OnReport = Callable[[ObjectReport], object]
"""Called with the report of each object when it has been read."""


class _Stopped(Exception):
    """The run was stopped between two rows, or between two parts of a download."""


class ObjectImporter:
    """Imports usage from the objects below a URL: CSV, TSV, JSON, JSONL, xlsx and Parquet, also compressed with gzip.

    The default columns are those of Stripe's import. Each version of an object, which is its URL, ETag and version, is
    read once. Progress is stored in the transactions of the rows, so that an interrupted run goes on where it was. An
    object that can't be read, and a row that is rejected, affect no others.
    """

    def __init__(
        self,
        metering: Metering,
        url: str,
        *,
        row_format: RowFormat | None = None,
        options: FileOptions | None = None,
        limits: FileLimits = DEFAULT_LIMITS,
        source: str = "",
        by: str | None = None,
    ) -> None:
        """Raise InvalidUsageSource if there is no such kind of store, or the extra `objects` is not installed."""
        self.bucket = _open_bucket(url)
        self._metering = metering
        self._row_format = row_format or RowFormat()
        self._options = options or FileOptions()
        self._limits = limits
        self._source = source
        self._by = by
        self._key_values = metering.key_value_store()
        self._log = ObjectLog(self._key_values)

    def run(
        self, *, retry: bool = False, stop: threading.Event | None = None, on_report: OnReport | None = None
    ) -> ObjectImport:
        """Import the objects that are new, or of which an earlier run was interrupted.

        With `retry`, also those that failed, or of which rows were not recorded, again from the start. After `stop` is
        set, the run ends after the batch of rows, or the part of a download, that is in progress. Raises
        UsageSourceUnavailable if the objects can't be listed, and the errors of the ledger.
        """
        url = self.bucket.url
        with self._key_values.try_lock(f"object import {sha256(url.encode()).hexdigest()[:16]}") as is_locked:
            if not is_locked:
                return ObjectImport(url, is_locked=False)
            reports: list[ObjectReport] = []
            before = incomplete = ignored = 0
            for page in self.bucket.pages():
                if stop is not None and stop.is_set():
                    break
                objects = [stored for stored in page if not stored.is_ignored]
                ignored += len(page) - len(objects)
                known, changed = self._log.find_reports(objects), self._log.find_changed(objects)
                for stored in objects:
                    report = known.get(stored.identity)
                    if report is not None and (report.is_complete or not retry):
                        before += 1
                        incomplete += not report.is_complete
                        continue
                    if stop is not None and stop.is_set():
                        break
                    if report is not None:
                        self._log.start_retry(stored, report)
                    is_changed = report.is_changed if report is not None else stored.identity in changed
                    reports.append(self._import(stored, is_changed, stop))
                    if on_report is not None:
                        on_report(reports[-1])
            return ObjectImport(url, tuple(reports), before, ignored, incomplete_before=incomplete)

    def reports(self) -> list[ObjectReport]:
        """Return the reports of all objects below the URL that were read, the oldest first."""
        url = self.bucket.url
        return [report for report in self._log.reports() if report.url == url or report.url.startswith(f"{url}/")]

    def _import(self, stored: StoredObject, is_changed: bool, stop: threading.Event | None) -> ObjectReport:
        """Import an object, and return its report, which is stored if the object need not be read again."""
        progress = self._log.progress(stored)
        report = progress or ObjectReport(
            stored.url, stored.e_tag, stored.version, stored.size, ObjectStatus.IN_PROGRESS, self._now(), is_changed,
            str(uuid7()),
        )  # fmt: skip

        def require_running(_read: int, _size: int) -> None:
            if stop is not None and stop.is_set():
                raise _Stopped

        try:
            with TemporaryFile() as file:
                self._read(stored, cast(BinaryIO, file), require_running)
                report = self._import_rows(stored, report, cast(BinaryIO, file), require_running)
        except ObjectChanged:
            message = "It was replaced or deleted after it was listed. The next import reads it."
            return self._failed(stored, report, ObjectStatus.UNAVAILABLE, "object_changed", message)
        except UsageSourceUnavailable as error:
            return self._failed(stored, report, ObjectStatus.UNAVAILABLE, error.code, error.message)
        except EntryExists:
            message = "Another process imports it at the moment."
            return self._failed(stored, report, ObjectStatus.IN_PROGRESS, "object_in_progress", message)
        except _Stopped:
            message = "The import was stopped. The next import goes on from here."
            return self._failed(stored, report, ObjectStatus.IN_PROGRESS, "import_stopped", message)
        except (InvalidRequest, NotFound) as error:
            report = self._failed(stored, report, ObjectStatus.FAILED, error.code, error.message)
        report = _with_earlier_import(report, self._log.report_before_retry(stored))
        self._log.finish(stored, report)
        return report

    def _failed(
        self, stored: StoredObject, report: ObjectReport, status: ObjectStatus, code: str, message: str
    ) -> ObjectReport:
        """Return the report of an object of which perhaps only some rows are recorded."""
        recorded = self._log.progress(stored) or replace(report, run_id=None)
        return replace(_without_empty_run(recorded), status=status, code=code, message=message, at=self._now())

    def _read(self, stored: StoredObject, file: BinaryIO, advance: ProgressCallback) -> None:
        try:
            self.bucket.read(stored, file, self._limits.max_bytes, advance)
        except OSError as error:
            raise UsageSourceUnavailable(
                f"{stored.url} can't be stored in a temporary file in {gettempdir()}: {error.strerror or error}.",
                field="url",
                value=stored.url,
            ) from error

    def _import_rows(
        self, stored: StoredObject, report: ObjectReport, file: BinaryIO, advance: ProgressCallback
    ) -> ObjectReport:
        """Record the rows of an object that aren't recorded yet."""

        def attach(outcomes: BatchOutcomes, at: datetime) -> Sequence[KeyValueEntry]:
            rejected = [row for row, _ in outcomes.rejected]
            added = replace(_counted(report, importer), at=at)
            for name, count in (("rows", outcomes.rows), *outcomes.counts.items()):
                added = replace(added, **{str(name): getattr(added, name) + count})
            return [self._log.entry(stored, replace(added, rejected_rows=_rejected(added.rejected_rows, rejected)))]

        path = Path(stored.key)
        with open_usage_file(path, self._options, advance, contents=file, limits=self._limits) as usage_file:
            recorder = self._metering.imports.start(
                stored.url, usage_file.digest.hex(), by=self._by, run_id=report.run_id
            )
            importer = UsageImporter(
                self._metering, usage_file, self._row_format, source=self._source,
                max_first_rejected=MAX_REJECTED_ROWS, recorder=recorder, attach=attach, skipped_rows=report.rows,
                is_checked=True,
            )  # fmt: skip
            summary = importer.summary
            summary.rows, summary.accepted, summary.duplicate = report.rows, report.accepted, report.duplicate
            summary.conflict, summary.rejected = report.conflict, report.rejected
            importer.run(advance=advance)
            finished = _counted(report, importer)
            return _without_empty_run(replace(finished, status=ObjectStatus.IMPORTED, at=self._now()))

    def _now(self) -> datetime:
        return ensure_utc(self._metering.clock(), "clock")


def _open_bucket(url: str) -> "Bucket":
    try:
        from .bucket import Bucket  # noqa: PLC0415 - an extra
    except ImportError as error:
        message = f"An object store needs an extra ({error}): pip install 'tallybook[objects]'."
        raise InvalidUsageSource(message, field="url", value=url) from None
    return Bucket(url)


def _counted(report: ObjectReport, importer: UsageImporter) -> ObjectReport:
    """Return a report with the rows that an importer has recorded."""
    summary = importer.summary
    return replace(
        report, rows=summary.rows, accepted=summary.accepted, duplicate=summary.duplicate, conflict=summary.conflict,
        rejected=summary.rejected, rejected_rows=_rejected(report.rejected_rows, summary.first_rejected),
    )  # fmt: skip


def _rejected(earlier: Sequence[RejectedObjectRow], rows: Sequence[RejectedRow]) -> tuple[RejectedObjectRow, ...]:
    room = max(0, MAX_REJECTED_ROWS - len(earlier))
    return (
        *earlier,
        *(
            RejectedObjectRow(row.line, row.identifier, str(row.outcome), row.error.code, row.error.message)
            for row in rows[:room]
        ),
    )


def _with_earlier_import(report: ObjectReport, earlier: ObjectReport | None) -> ObjectReport:
    """Return the report of a retry, with the import before it if the retry has recorded nothing.

    The rows that were accepted then are duplicates of themselves now.
    """
    if report.accepted or earlier is None or earlier.run_id is None:
        return report
    duplicate = max(0, report.duplicate - earlier.accepted)
    return replace(report, run_id=earlier.run_id, accepted=earlier.accepted, duplicate=duplicate)


def _without_empty_run(report: ObjectReport) -> ObjectReport:
    return report if report.accepted else replace(report, run_id=None)
