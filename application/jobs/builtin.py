"""Jobs of Tallybook itself: exporting to an archive, and keeping the read models up to date."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from ..archive.service import ArchiveService
from .job import Job, JobResult, JobRun

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PROJECTION_RETRY = timedelta(seconds=5)


def archive_job(archive: ArchiveService, destination: "str | ObjectStore", interval: timedelta) -> Job:
    """Return the job `archive`: add the new events to the archive at `destination`, at each interval."""

    def run(run: JobRun) -> JobResult:
        export = archive.export(destination, progress=run.progress)
        return {"rows": export.rows, "segments": export.segments, "last_position": export.last_position}

    return Job("archive", interval, run)


def projection_job(run_projection: Callable[[threading.Event], None]) -> Job:
    """Return the job `projection`, which runs `Metering.run_projection` until it is stopped. It is essential."""

    def run(run: JobRun) -> None:
        run_projection(run.stop)

    return Job("projection", None, run, retry=PROJECTION_RETRY, is_essential=True)
