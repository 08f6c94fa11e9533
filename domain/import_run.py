"""The ImportRun aggregate: one import of a file, and how many of its rows were recorded.

Invariant: an import that has finished records nothing more. Its meter events are recorded in batches; the last event of
each batch says how many meter events are stored directly before it, so that they need no field of their own.
"""

import operator
from datetime import datetime

from pydantic import Field

from .aggregate import Aggregate

STREAM_PREFIX = "import/"


class ImportRun(Aggregate):
    """One import of a file."""

    class ImportStarted(Aggregate.Created):
        """The first batch of a file is recorded, as in ImportBatchRecorded. `digest` is the SHA-256 of its contents."""

        file: str
        digest: str
        count: int
        event_names: tuple[str, ...]
        earliest: datetime
        latest: datetime
        by: str | None = Field(default=None, exclude_if=operator.not_)

    class ImportBatchRecorded(Aggregate.Event):
        """The `count` events before this one are meter events of the file, of the usage from `earliest` to `latest`."""

        count: int
        event_names: tuple[str, ...]
        earliest: datetime
        latest: datetime
        by: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "ImportRun") -> None:
            """Count the meter events."""
            aggregate.recorded += self.count
            aggregate.event_names = tuple(sorted({*aggregate.event_names, *self.event_names}))
            aggregate.earliest = min(aggregate.earliest, self.earliest)
            aggregate.latest = max(aggregate.latest, self.latest)

    class ImportFinished(Aggregate.Event):
        """All rows of the file were read: their number by outcome."""

        rows: int
        accepted: int
        duplicates: int
        conflicts: int
        rejected: int
        by: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "ImportRun") -> None:
            """Set the numbers of rows."""
            aggregate.finished = self

    def __init__(
        self, file: str, digest: str, count: int, event_names: tuple[str, ...], earliest: datetime, latest: datetime,
        by: str | None = None,
    ) -> None:  # fmt: skip
        self.file = file
        self.digest = digest
        self.by = by
        self.recorded = count
        self.event_names = event_names
        self.earliest = earliest
        self.latest = latest
        self.finished: ImportRun.ImportFinished | None = None

    @staticmethod
    def stream_id(run_id: str) -> str:
        """Return the id of the stream of the import `run_id`."""
        return STREAM_PREFIX + run_id

    @property
    def run_id(self) -> str:
        """The id of the import."""
        return self.id.removeprefix(STREAM_PREFIX)

    @classmethod
    def start(
        cls, run_id: str, *, file: str, digest: str, by: str | None, count: int, event_names: tuple[str, ...],
        earliest: datetime, latest: datetime, at: datetime,
    ) -> "ImportRun":  # fmt: skip
        """Start an import with its first batch, which is stored in the same transaction, directly before this event."""
        return cls._create(
            cls.ImportStarted, id=cls.stream_id(run_id), timestamp=at, file=file, digest=digest, by=by, count=count,
            event_names=event_names, earliest=earliest, latest=latest,
        )  # fmt: skip

    def record_batch(
        self, *, count: int, event_names: tuple[str, ...], earliest: datetime, latest: datetime, at: datetime
    ) -> None:
        """Take note of another batch, which is stored in the same transaction, directly before this event."""
        self.trigger_event(
            self.ImportBatchRecorded, timestamp=at, count=count, event_names=event_names, earliest=earliest,
            latest=latest,
        )  # fmt: skip

    def finish(self, *, rows: int, accepted: int, duplicates: int, conflicts: int, rejected: int, at: datetime) -> None:
        """Take note of the outcomes of all rows."""
        self.trigger_event(
            self.ImportFinished, timestamp=at, rows=rows, accepted=accepted, duplicates=duplicates,
            conflicts=conflicts, rejected=rejected,
        )  # fmt: skip
