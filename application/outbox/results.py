"""The values that the calls of an outbox return. They are immutable."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from ...domain.errors import InvalidTimestamp
from ..storage.outbox import RejectedOutboxRow, RowCounts, from_text


@dataclass(frozen=True, slots=True)
class RelayResult:
    """What a relay did: how many meter events it recorded, found recorded already, and how many were rejected."""

    recorded: int = 0
    duplicates: int = 0
    rejected: int = 0

    def __add__(self, other: "RelayResult") -> "RelayResult":
        return RelayResult(
            self.recorded + other.recorded, self.duplicates + other.duplicates, self.rejected + other.rejected
        )


@dataclass(frozen=True, slots=True)
class OutboxLag:
    """The rows of an outbox: how many wait for a relay, and how many the ledger rejected.

    `oldest_submitted_at` is when the first of the waiting ones was submitted, `age_seconds` ago; None and 0 if none is
    waiting.
    """

    waiting: int
    rejected: int
    oldest_submitted_at: datetime | None
    age_seconds: float

    @classmethod
    def from_counts(cls, counts: RowCounts, now: datetime) -> "OutboxLag":
        """Return the lag at `now`."""
        oldest = _time(counts.oldest_submitted_at)
        age_seconds = 0.0 if oldest is None else (now - oldest).total_seconds()
        return cls(counts.waiting, counts.rejected, oldest, max(age_seconds, 0.0))


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row of an outbox whose meter event the ledger rejected, with the error and when that was.

    The meter event is as it was submitted at `submitted_at`; `timestamp` is None if it has none. What another program
    wrote in a form that can't be read is None.
    """

    id: int
    event_name: str
    identifier: str
    payload: dict[str, str] | None
    timestamp: datetime | None
    submitted_at: datetime | None
    code: str
    message: str
    rejected_at: datetime | None

    @classmethod
    def from_row(cls, row: RejectedOutboxRow) -> "RejectedRow":
        """Return the view of a row."""
        return cls(
            row.id, _text(row.event_name), _text(row.identifier), _payload(row.payload), _time(row.occurred_at),
            _time(row.submitted_at), row.error_code, row.error_message, _time(row.rejected_at),
        )  # fmt: skip


def _payload(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _text(value: object) -> str:
    """Return a text; of bytes, which SQLite stores in columns of text too, their form in Python."""
    return value if isinstance(value, str) else repr(value)


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else from_text(text)
    except InvalidTimestamp:
        return None
