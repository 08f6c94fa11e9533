"""What an import from an object store returns. The values are immutable, and stored as they are returned."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ObjectStatus(StrEnum):
    """Whether an object was imported.

    `imported`: all of its rows were read. `failed`: it is no usage file, or is malformed at some point; it is not read
    again, unless it is changed or asked for. `unavailable`: it could not be read, and is tried again next time.
    `in_progress`: its import was interrupted, or another process imports it.
    """

    IMPORTED = "imported"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"
    IN_PROGRESS = "in_progress"


@dataclass(frozen=True, slots=True)
class RejectedObjectRow:
    """A row that was not recorded: its first line in the object, and the error."""

    line: int
    identifier: str | None
    outcome: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """One version of an object: its rows by outcome, and the first of those that were not recorded.

    With `is_changed`, an earlier version was imported: rows that were recorded then are duplicates, and rows that are
    different now under the same identifier are in conflict. `run_id` is the import in `metering.imports`, None if
    nothing was recorded. If the object was read again with `retry`, and nothing more was recorded, `run_id` and
    `accepted` are those of before. `code` and `message` are those of the error, if the status isn't `imported`.
    """

    url: str
    e_tag: str | None
    version: str | None
    size: int
    status: ObjectStatus
    at: datetime
    is_changed: bool = False
    run_id: str | None = None
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    rejected_rows: tuple[RejectedObjectRow, ...] = ()
    code: str | None = None
    message: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all rows are recorded."""
        return self.status is ObjectStatus.IMPORTED and not (self.conflict or self.rejected)


@dataclass(frozen=True, slots=True)
class ObjectImport:
    """One run of an import: the reports of the objects that it read, and the numbers of the others.

    `imported_before` are the objects that an earlier run has read, and `incomplete_before` those of them of which not
    all rows are recorded. `ignored` are those whose name begins with a point or an underscore, and in a folder
    symbolic links out of it or in a loop. `is_locked` is False if another process imports from the same URL, so that
    nothing was done.
    """

    url: str
    reports: tuple[ObjectReport, ...] = ()
    imported_before: int = 0
    ignored: int = 0
    is_locked: bool = True
    incomplete_before: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether all rows of all objects that were read are recorded."""
        return all(report.is_complete for report in self.reports)
