"""Imports of uploaded files as tasks: `import-check`, which records nothing, and `import`."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from ..jobs.job import JobResult
from ..jobs.running_task import TaskRun
from ..jobs.tasks import TaskView
from ..metering import Metering
from .dry_run import open_dry_run
from .error_rows import ErrorFile
from .files import open_usage_file
from .formats import FileLimits, Row
from .importer import UsageImporter
from .options import ImportOptions, ImportReport
from .results import RejectedRow
from .uploads import Upload, UploadStore

CHECK, IMPORT = "import-check", "import"
LIMITS = FileLimits(max_bytes=256 << 20, max_rows=2_000_000, max_memory_bytes=512 << 20)
"""The most that an upload may unpack to, its rows, and the memory to read it. `tallybook import` has only the last."""
MAX_FIRST_REJECTED = 20


def upload_store(metering: Metering) -> UploadStore:
    """Return the uploads of a ledger."""
    return UploadStore(metering.key_value_store(), metering.clock)


def start_import(
    metering: Metering, upload: Upload, options: ImportOptions, *, dry_run: bool, by: str | None = None
) -> TaskView:
    """Start a task that imports an uploaded file, or with `dry_run` only says what an import would record.

    The upload has its report then. Raises InvalidParameter or UnknownTimezone for options that are not valid, and
    TaskInProgress if a task of this kind runs.
    """
    uploads, file_options, row_format = upload_store(metering), options.file_options(), options.row_format()
    kind = CHECK if dry_run else IMPORT
    if dry_run:
        upload = uploads.set_options(upload, options)

    def work(run: TaskRun) -> JobResult:
        run.start_stage("reading", "bytes")
        with ExitStack() as stack:
            stack.enter_context(uploads.reading(upload, kind))
            contents = uploads.open(upload)
            file = stack.enter_context(
                open_usage_file(
                    Path(upload.file_name), file_options, run.progress, contents=contents,
                    limits=LIMITS,
                )
            )  # fmt: skip
            recorder = stack.enter_context(open_dry_run(metering, file.path, file.digest)) if dry_run else None
            importer = UsageImporter(
                metering, file, row_format, source=options.source, by=by, recorder=recorder,
                max_first_rejected=MAX_FIRST_REJECTED,
            )  # fmt: skip
            importer.check(run.progress)
            run.start_stage("checking" if dry_run else "recording", "bytes")
            errors = Path(stack.enter_context(TemporaryDirectory(prefix="tallybook-rejected-")), "rows")
            error_file = ErrorFile(errors, file.dialect, file.columns)

            def write_rejected(rejected: RejectedRow, row: Row) -> None:
                error_file.write(row, f"{rejected.outcome}, {rejected.error.code}: {rejected.error.message}")

            try:
                summary = importer.run(on_rejected=write_rejected, advance=run.progress)
            finally:
                error_file.close()
            with errors.open("rb") as rejected_rows:
                report = ImportReport.of(summary, dry_run=dry_run)
                is_complete = summary.not_recorded > 0 and error_file.error is None
                uploads.finish(upload, options, report, rejected_rows if is_complete else None)
        return {
            "upload": upload.id, "rows": report.rows, "accepted": report.accepted, "duplicate": report.duplicate,
            "conflict": report.conflict, "rejected": report.rejected, "import_run": report.import_run,
        }  # fmt: skip

    return metering.tasks.start(kind, work, by=by)
