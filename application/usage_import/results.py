"""What an import of usage returns: rows by outcome, the first rejected ones, and the first as they are recorded."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ...domain.errors import TallybookError
from ..results import Outcome
from .formats import FileDialect, Row


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was not recorded: its first line in the file, and the error."""

    line: int
    identifier: str | None
    outcome: Outcome
    error: TallybookError


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """A row as it is recorded: its line, and its meter event."""

    line: int
    event_name: str
    timestamp: datetime
    identifier: str | None
    payload: Mapping[str, object]


@dataclass(slots=True)
class ImportSummary:
    """The progress of an import: rows by outcome. `generated` counts the rows whose identifier was generated.

    `generated_duplicates` are those of them that were recorded before, by an import of the same rows.
    """

    file: Path
    dialect: FileDialect
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    generated: int = 0
    generated_duplicates: int = 0
    cancelled_duplicates: int = 0
    """Rows without an identifier that were recorded before and cancelled since: they don't count."""
    seconds: float = 0.0
    run_id: str | None = None
    """The id of the import; None if it has recorded nothing."""
    first_rejected: list[RejectedRow] = field(default_factory=list[RejectedRow])
    """The first rows that were not recorded; `on_rejected` is called with all of them."""
    first_rows: list[PreviewRow] = field(default_factory=list[PreviewRow])
    """The first rows as they are recorded."""

    @property
    def not_recorded(self) -> int:
        """The number of rows that were in conflict or rejected."""
        return self.conflict + self.rejected

    def add(self, batch: "BatchOutcomes") -> None:
        """Count the rows of a batch."""
        self.rows += batch.rows
        for outcome, count in batch.counts.items():
            setattr(self, outcome, getattr(self, outcome) + count)


@dataclass(slots=True)
class BatchOutcomes:
    """The rows of a batch by outcome, those that were not recorded, and the recorded ones without an identifier."""

    rows: int
    counts: Counter[Outcome]
    rejected: list[tuple[RejectedRow, Row]] = field(default_factory=list[tuple[RejectedRow, Row]])
    generated_duplicates: list[str] = field(default_factory=list[str])
