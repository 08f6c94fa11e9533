"""The values that the calls of `metering.imports` return. They are immutable."""

from dataclasses import dataclass
from datetime import datetime

from ..domain.import_run import ImportRun


@dataclass(frozen=True, slots=True)
class ImportRunView:
    """One import of a file: its name, the SHA-256 of its contents, and when and by whom it was started.

    `recorded` is the number of its meter events, which occurred from `earliest` to `latest`. The numbers of rows by
    outcome are None unless it has finished, at `finished_at`.
    """

    run_id: str
    file: str
    digest: str
    started_at: datetime
    by: str | None
    recorded: int
    event_names: tuple[str, ...]
    earliest: datetime
    latest: datetime
    finished_at: datetime | None = None
    rows: int | None = None
    duplicates: int | None = None
    conflicts: int | None = None
    rejected: int | None = None

    @classmethod
    def from_aggregate(cls, run: ImportRun) -> "ImportRunView":
        """Return the view of an import."""
        finished = run.finished
        return cls(
            run.run_id, run.file, run.digest, run.created_on, run.by, run.recorded, run.event_names, run.earliest,
            run.latest,
            finished_at=finished and finished.timestamp,
            rows=finished and finished.rows,
            duplicates=finished and finished.duplicates,
            conflicts=finished and finished.conflicts,
            rejected=finished and finished.rejected,
        )  # fmt: skip
