"""Rejected meter events of a stream: how they are stored, with the reason, and how many of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from ....domain import errors
from ....domain.errors import TallybookError
from ....domain.meter_event_input import MeterEventInput
from ....domain.timestamps import MICROSECONDS_PER_SECOND, to_microseconds
from ...storage.key_value import KeyValueEntry, KeyValueStore
from ...uuid7 import uuid7
from .pagination import read_in_parts

REJECTED_EVENT_KIND, UNREPORTED_KIND = "refused_event", "unreported"
ERROR_CODES: Mapping[type[TallybookError], str] = {
    errors.MeterNotFound: "no_meter",
    errors.MeterInactive: "archived_meter",
    errors.MissingCustomer: "meter_event_no_customer_defined",
    errors.MissingValue: "meter_event_invalid_value",
    errors.MissingDimension: "missing_dimension_payload_keys",
    errors.TooManyCombinations: "meter_event_dimension_count_too_high",
    errors.InvalidValue: "meter_event_invalid_value",
    errors.TooManyDigits: "meter_event_value_too_many_digits",
    errors.TimestampTooFarInPast: "timestamp_too_far_in_past",
    errors.TimestampInFuture: "timestamp_in_future",
    errors.DuplicateMeterEvent: "duplicate_meter_event",
}
"""The codes of Stripe's error reports. Other errors keep their own code."""


OMITTED_CODE = "rejected_events_omitted"
RETENTION = timedelta(days=35)
"""How long rejected events are stored: later, the default policy would not accept their corrections."""
MAX_EVENTS_PER_DAY, MAX_BYTES_PER_DAY = 1_000, 16_000_000
"""How many rejected events of one access key are stored for each UTC day, and how many bytes."""
_MAX_COUNTED = 50_000
_FLUSH_SECONDS = 1.0
_DAY = 86_400 * MICROSECONDS_PER_SECOND


class RejectedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A meter event that was rejected after the response, stored completely so that it can be corrected and resent."""

    code: str
    message: str
    event_name: str
    payload: dict[str, str]
    identifier: str | None
    timestamp: datetime | None
    request_id: str
    idempotency_key: str | None
    key_id: str = ""


@dataclass(slots=True)
class _Counts:
    """How many rejected events were stored, with how many bytes, and how many were omitted."""

    events: int = 0
    bytes: int = 0
    omitted: int = 0


@dataclass(slots=True)
class _KeyDay(_Counts):
    """The counts of one access key for one UTC day, and of its omitted events those that are stored as omitted."""

    omitted_id: str = field(default_factory=lambda: f"mtrerr_{uuid7()}")
    flushed: int = 0


class RejectedEventLog:
    """Stores the rejected events of streams, within a limit for each access key and UTC day.

    Those above it are omitted, and one more entry of the day says how many. The limit holds for each server process.
    The methods are called by the thread that commits: `entries_for` inside a transaction, which may be tried again, and
    `commit` after it.
    """

    def __init__(
        self,
        key_values: KeyValueStore,
        max_events: int = MAX_EVENTS_PER_DAY,
        max_bytes: int = MAX_BYTES_PER_DAY,
        flush_seconds: float = _FLUSH_SECONDS,
    ) -> None:
        self._key_values = key_values
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._flush_seconds = flush_seconds
        self._flushed_at = 0.0
        self._day = -1
        self._key_days: dict[str, _KeyDay] = {}
        self._pending: dict[str, _Counts] = {}
        """The counts of the transaction, by access key."""

    def begin(self) -> None:
        """Start a transaction."""
        self._pending.clear()

    def entries_for(self, rejected: RejectedEvent, at: datetime) -> list[KeyValueEntry]:
        """Return the entries of a rejected event: the event, and a marker that it is not reported yet; or none."""
        at_microseconds = to_microseconds(at)
        self._load_day(at_microseconds // _DAY)
        body, key_id = msgspec.json.encode(rejected), rejected.key_id
        stored = self._key_days.get(key_id, _Counts())
        pending = self._pending.setdefault(key_id, _Counts())
        if (
            stored.events + pending.events >= self._max_events
            or stored.bytes + pending.bytes + len(body) > self._max_bytes
        ):
            pending.omitted += 1
            return []
        pending.events += 1
        pending.bytes += len(body)
        return _entries(f"mtrerr_{uuid7()}", at_microseconds, body)

    def commit(self, at: datetime) -> None:
        """Count the events of the transaction, and store from time to time how many were omitted."""
        for key_id, counts in self._pending.items():
            key_day = self._key_days.setdefault(key_id, _KeyDay())
            key_day.events += counts.events
            key_day.bytes += counts.bytes
            key_day.omitted += counts.omitted
        self._pending.clear()
        if time.monotonic() - self._flushed_at >= self._flush_seconds:
            self.flush(at)

    def flush(self, at: datetime) -> None:
        """Store how many events were omitted."""
        at_microseconds = to_microseconds(at)
        entries: list[KeyValueEntry] = []
        for key_id, key_day in self._key_days.items():
            if key_day.omitted > key_day.flushed:
                event, marker = _entries(key_day.omitted_id, at_microseconds, self._omission(key_id, key_day))
                entries += [event] if key_day.flushed else [event, marker]
                key_day.flushed = key_day.omitted
        if entries:
            self._key_values.apply(upsert=entries)
            self._flushed_at = time.monotonic()

    def _omission(self, key_id: str, key_day: _KeyDay) -> bytes:
        message = (
            f"{key_day.omitted} more rejected meter events of the access key {key_id} were not stored on this UTC day: "
            f"at most {self._max_events} events and {self._max_bytes} bytes of a key are. They are not counted in any "
            "total. Correct what sends them, and send them again."
        )
        return msgspec.json.encode(
            RejectedEvent(
                code=OMITTED_CODE, message=message, event_name="", payload={}, identifier=None, timestamp=None,
                request_id="", idempotency_key=None, key_id=key_id,
            )
        )  # fmt: skip

    def _load_day(self, day: int) -> None:
        """Count what is stored of a new day."""
        if day == self._day:
            return
        self._day, self._key_days = day, {}

        def read_after(last: KeyValueEntry | None, count: int) -> Sequence[KeyValueEntry]:
            after = None if last is None else last.key
            return self._key_values.scan(REJECTED_EVENT_KIND, after=after, limit=count, newest_first=True)

        for entry in read_in_parts(read_after, lambda entry: len(entry.body), _MAX_COUNTED):
            if entry.at // _DAY < day:
                return
            key_day = self._key_days.setdefault(decode_rejected(entry.body).key_id, _KeyDay())
            key_day.events += 1
            key_day.bytes += len(entry.body)


def rejected_event(
    event_input: MeterEventInput, error: TallybookError, key_id: str, request_id: str, idempotency_key: str | None
) -> RejectedEvent:
    """Return a meter event with the error that it was rejected with."""
    return RejectedEvent(
        code=ERROR_CODES.get(type(error), error.code),
        message=error.message,
        event_name=event_input.event_name,
        payload=event_input.payload,
        identifier=event_input.identifier,
        timestamp=event_input.timestamp,
        request_id=request_id,
        idempotency_key=idempotency_key,
        key_id=key_id,
    )


decode_rejected: Callable[[bytes], RejectedEvent] = msgspec.json.Decoder(RejectedEvent).decode


def _entries(entry_key: str, at: int, body: bytes) -> list[KeyValueEntry]:
    """Return a rejected event, and the marker that it is not reported yet."""
    return [KeyValueEntry(REJECTED_EVENT_KIND, entry_key, at, body), KeyValueEntry(UNREPORTED_KIND, entry_key, at, b"")]
