"""How a message of a topic becomes a meter event: JSON like a line of a JSONL file, or a CloudEvent."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from ...domain.errors import (
    DatabasePermissionDenied,
    InvalidMeterEvent,
    LedgerCorrupted,
    LedgerUnavailable,
    TallybookError,
)
from ...domain.rules_schedule import RulesSchedule
from ...domain.timestamps import EPOCH
from ..usage_import.formats import Row
from ..usage_import.json_rows import cloud_event_row, json_row
from ..usage_import.row_mapper import RowFormat, RowMapper, cell_at

_MAX_IDENTIFIER_LENGTH = 100
_ATTRIBUTE = "ce_"
"""How the headers of a CloudEvent in binary mode begin. Source: CloudEvents 1.0, Kafka Protocol Binding."""


_NO_ATTRIBUTES: Mapping[str, str] = {}


class Message(NamedTuple):
    """A message as it was read. `published` is the time that the broker has of it, in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    published: int | None
    value: bytes | None
    attributes: Mapping[str, str]

    @classmethod
    def of(cls, message: Any) -> "Message":
        """Return a message of the client library."""
        kind, milliseconds = message.timestamp()
        headers = message.headers()
        return cls(
            message.topic(),
            message.partition(),
            message.offset(),
            milliseconds if kind and milliseconds > 0 else None,
            message.value(),
            _attributes(headers) if headers else _NO_ATTRIBUTES,
        )

    @property
    def published_at(self) -> datetime | None:
        """The time that the broker has of the message; None if it has none, or one after the year 9999."""
        if self.published is None:
            return None
        try:
            return EPOCH + timedelta(milliseconds=self.published)
        except OverflowError:  # producers set the time, and may use another unit
            return None

    @property
    def identifier(self) -> str:
        """The identifier of the meter event if the message has none.

        It has the time of the message, so that a topic that was created again has other ones.
        """
        identifier = f"{self.topic}/{self.partition}/{self.offset}/{self.published or ''}"
        if len(identifier) <= _MAX_IDENTIFIER_LENGTH:
            return identifier
        return sha256(identifier.encode()).hexdigest()

    @property
    def text(self) -> str:
        """The value as text, also if it is none."""
        return (self.value or b"").decode(errors="backslashreplace")


class MessageMapper:
    """Returns the meter events of messages, or their errors. One is used for a batch, so that it knows all meters."""

    def __init__(self, row_format: RowFormat, get_schedule: Callable[[str], RulesSchedule]) -> None:
        self._mapper = RowMapper(row_format, lru_cache(get_schedule))
        self._timestamp = row_format.columns.timestamp

    def map(self, message: Message) -> Mapping[str, object] | TallybookError:
        """Return the meter event of a message. Its time is that of the message if it has none of its own."""
        row = _row(message)
        if isinstance(row, TallybookError):
            return row
        if row.error is not None:
            return row.error
        cells = row.cells
        if cell_at(cells, self._timestamp) in (None, ""):
            cells = {**cells, self._timestamp: message.published_at}
        try:
            meter_event = self._mapper.map(cells)
        except (LedgerCorrupted, LedgerUnavailable, DatabasePermissionDenied):
            raise  # nothing is wrong with the message
        except TallybookError as error:
            return error
        if meter_event["identifier"] is None:
            meter_event["identifier"] = message.identifier
        return meter_event


def _attributes(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    return {
        name.removeprefix(_ATTRIBUTE): (value or b"").decode(errors="replace")
        for name, value in headers
        if name.startswith(_ATTRIBUTE)
    }


def _row(message: Message) -> Row | TallybookError:
    if message.value is None:
        return InvalidMeterEvent("The message has no value.", field="value")
    try:
        text = message.value.decode()
    except UnicodeDecodeError:
        return InvalidMeterEvent("The message is not UTF-8 text.", field="value")
    return cloud_event_row(message.attributes, text) if message.attributes else json_row(1, text)
