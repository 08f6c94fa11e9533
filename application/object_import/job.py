"""A job that imports the new objects below a URL at each interval."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from ..jobs.job import Job, JobResult, JobRun, JobStopped
from .importer import ObjectImporter
from .results import ObjectImport, ObjectReport, ObjectStatus

_log = logging.getLogger("tallybook.jobs")


def import_job(name: str, open_importer: Callable[[], ObjectImporter], interval: timedelta) -> Job:
    """Return the job `name`: import new objects at each interval, with an importer that is opened for each run.

    An error of the URL or of the store is the error of the run. The result has the number of `objects` that were read
    and of their rows; `incomplete` are the objects below the URL of which not all rows are recorded, whenever read.
    """

    def run(run: JobRun) -> JobResult:
        reports: list[ObjectReport] = []

        def on_report(report: ObjectReport) -> None:
            reports.append(report)
            run.report(_numbers(reports))
            if not report.is_complete and report.status is not ObjectStatus.IN_PROGRESS:
                _log.warning("%s", _describe_incomplete(report))

        result = open_importer().run(stop=run.stop, on_report=on_report)
        if run.stop.is_set():
            raise JobStopped
        return _result(result)

    return Job(name, interval, run)


def _describe_incomplete(report: ObjectReport) -> str:
    """Return why not all rows of an object are recorded, without their contents, and what to do."""
    first = next(iter(report.rejected_rows), None)
    if report.message is not None or first is None:
        return f"{report.url}: {report.status}: {report.code}: {report.message}"
    missing = report.conflict + report.rejected
    return (
        f"{report.url}: {missing:,} of {report.rows:,} rows were not recorded; line {first.line}: {first.code}. "
        f"'tallybook import {report.url} --list' shows why."
    )


def _result(result: ObjectImport) -> JobResult:
    if not result.is_locked:
        return {"skipped": "another process imports from this URL"}
    incomplete = result.incomplete_before + sum(not report.is_complete for report in result.reports)
    return {**_numbers(result.reports), "incomplete": incomplete}


def _numbers(reports: Sequence[ObjectReport]) -> dict[str, int]:
    return {
        "objects": len(reports),
        "rows": sum(report.rows for report in reports),
        "accepted": sum(report.accepted for report in reports),
    }
