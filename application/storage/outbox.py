"""The outbox: a table in which a host program stores meter events in its own transactions. Its rows, and its port."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import msgspec

from ...domain.errors import InvalidParameter, InvalidPayload, InvalidTimestamp
from ...domain.meter_event_input import MeterEventInput
from ...domain.text import abbreviated_repr
from ...domain.timestamps import parse_iso

DEFAULT_TABLE = "tallybook_outbox"
ROW_FORMAT = 1
"""The version of the format of a row. A relay leaves rows of newer versions to a newer relay."""
WAITING, REJECTED = "waiting", "rejected"
INSERTED_COLUMNS = ("format", "event_name", "identifier", "payload", "occurred_at", "submitted_at", "state")

_TABLE_NAME = re.compile(r"(?:[a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,50}")


class OutboxRow(NamedTuple):
    """A row of the outbox: a meter event as the host submitted it. `payload` is JSON; times are as `to_text` writes."""

    id: int
    event_name: str
    identifier: str
    payload: str
    occurred_at: str | None
    submitted_at: str

    def meter_event(self) -> dict[str, object]:
        """Return the meter event. Raise InvalidPayload or InvalidTimestamp if another program wrote it otherwise."""
        try:
            payload = msgspec.json.decode(self.payload)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise InvalidPayload(f"The payload of the row is not JSON: {error}.", field="payload") from error
        return {
            "event_name": self.event_name,
            "identifier": self.identifier,
            "payload": payload,
            "timestamp": None if self.occurred_at is None else from_text(self.occurred_at),
        }


class RejectedOutboxRow(NamedTuple):
    """A row whose meter event the ledger rejected: its columns, and why and when it was rejected."""

    id: int
    event_name: str
    identifier: str
    payload: str
    occurred_at: str | None
    submitted_at: str
    error_code: str
    error_message: str
    rejected_at: str


class Rejection(NamedTuple):
    """Why the ledger rejected the meter event of a row, and when."""

    code: str
    message: str
    rejected_at: str
    id: int


class Decisions(NamedTuple):
    """What became of rows: the ids of those whose meter events are in the ledger, and the rejections."""

    recorded: Sequence[int]
    rejections: Sequence[Rejection]


class RowCounts(NamedTuple):
    """The number of rows by state, and when the first of the waiting ones was submitted."""

    waiting: int
    rejected: int
    oldest_submitted_at: str | None


class OutboxTable(Protocol):
    """The table of an outbox, as a relay uses it, on connections of its own."""

    def last_waiting(self) -> int | None:
        """Return the greatest id of the waiting rows; None if none waits."""
        ...

    def process(self, last: int, limit: int, decide: Callable[[Sequence[OutboxRow]], Decisions]) -> int:
        """Select up to `limit` waiting rows with ids up to `last`, and store the decisions on them. Return their count.

        Recorded rows are deleted, and rejected ones are marked. Nothing changes if `decide` raises an error. Rows are
        selected by their state, so that one that was committed late, after rows with higher ids, is not skipped.
        """
        ...

    def counts(self) -> RowCounts:
        """Return the number of rows by state."""
        ...

    def rejected_rows(self, after: int, limit: int) -> Sequence[RejectedOutboxRow]:
        """Return up to `limit` rejected rows whose ids are greater than `after`, by id."""
        ...

    def retry(self, ids: Sequence[int] | None) -> int:
        """Let these rejected rows wait again, or all of them if None. Return their number."""
        ...

    def drop(self, ids: Sequence[int]) -> int:
        """Delete these rejected rows. Return their number."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def row_values(event_input: MeterEventInput, identifier: str, submitted_at: datetime) -> tuple[object, ...]:
    """Return the values of INSERTED_COLUMNS for a meter event."""
    return (
        ROW_FORMAT,
        event_input.event_name,
        identifier,
        msgspec.json.encode(event_input.payload).decode(),
        None if event_input.timestamp is None else to_text(event_input.timestamp),
        to_text(submitted_at),
        WAITING,
    )


def to_text(at: datetime) -> str:
    """Return a time as RFC 3339 text in UTC with microseconds: the order of such texts is that of the times."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def from_text(text: str) -> datetime:
    """Return the time that a text of the table states. Raise InvalidTimestamp."""
    try:
        return parse_iso(text).astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:  # TypeError: SQLite stores bytes in columns of text too
        raise InvalidTimestamp(
            f"A time of the row is not RFC 3339 text: {abbreviated_repr(text)}.", field="timestamp"
        ) from error


def require_table_name(table: object) -> str:
    """Return the name of a table, which may begin with that of its schema. Raise InvalidParameter."""
    if not isinstance(table, str) or _TABLE_NAME.fullmatch(table) is None:
        raise InvalidParameter(
            "'table' must be the name of a table of lower-case ASCII letters, digits and underscores, alone or after "
            f"that of its schema: {DEFAULT_TABLE!r} or 'shop.{DEFAULT_TABLE}', not {abbreviated_repr(table)}.",
            field="table",
            value=table,
        )
    return str(table)
