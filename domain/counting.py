"""Which meter events count: the rule behind every total.

A cancelled event doesn't count, and neither does one that doesn't match the filter of the meter. Without an event time
window every other event counts. With a window only the event recorded last counts, for each customer, combination of
dimension values and UTC window.
Source: Stripe's raw and pre-aggregated meters. That cancelling an event restores the one it superseded is our decision.
"""

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple

import msgspec

from .decimals import to_plain_string
from .event_time_window import EventTimeWindow
from .timestamps import microseconds_to_iso


class RevokedCancellation(NamedTuple):
    """A cancellation of a meter event that was revoked, so that the event counts again from the revocation on."""

    cancelled_position: int
    revoked_position: int


class UsageRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One meter event as it is counted. Times are microseconds since 1970 UTC; positions are ledger positions.

    `customer_id` is the customer's integer id in the read models, `dimensions` the dimension values as JSON text.
    `unique_value` is the text that the formula unique_count counts; other formulas leave it None. `is_filtered` is set
    if the event doesn't match the filter of the meter. `cancelled_position` is that of the cancellation in effect;
    `revoked` are the earlier cancellations, which were revoked, oldest first.
    """

    customer_id: int
    occurred_at: int
    position: int
    dimensions: str
    value: Decimal | None
    recorded_at: int
    cancelled_position: int | None = None
    unique_value: str | None = None
    is_filtered: bool = False
    revoked: tuple[RevokedCancellation, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether the event counts unless another supersedes it."""
        return self.cancelled_position is None and not self.is_filtered


def window_start(occurred_at: int, window: EventTimeWindow) -> int:
    """Return the start of the UTC window that contains `occurred_at`, in microseconds since 1970."""
    return occurred_at - occurred_at % window.microseconds


def effective_by_position(records: Iterable[UsageRecord], window: EventTimeWindow | None) -> dict[int, UsageRecord]:
    """Return, by the position of each event that is neither cancelled nor filtered, the event that counts in its place.

    A counted event maps to itself, a superseded event to the event that superseded it. `records` must contain every
    record of each window that it touches.
    """
    active = [record for record in records if record.is_active]
    if window is None:
        return {record.position: record for record in active}
    window_microseconds = window.microseconds
    keys = [(record.customer_id, record.dimensions, record.occurred_at // window_microseconds) for record in active]
    newest: dict[tuple[int, str, int], UsageRecord] = {}
    for key, record in zip(keys, active, strict=True):
        if key not in newest or newest[key].position < record.position:
            newest[key] = record
    return {record.position: newest[key] for key, record in zip(keys, active, strict=True)}


def effective_usage(records: Iterable[UsageRecord], window: EventTimeWindow | None) -> list[UsageRecord]:
    """Return the records that count. `records` must contain every record of each window that it touches."""
    if window is None:
        return [record for record in records if record.is_active]
    effective = effective_by_position(records, window)
    return [record for position, record in effective.items() if record.position == position]


def counted_value(value: Decimal | None, unique_value: str | None) -> str:
    """Return the value of an event in a digest: plain decimal text, or the unique value as JSON text; or ""."""
    if unique_value is not None:
        return msgspec.json.encode(unique_value).decode()
    return "" if value is None else to_plain_string(value)


class UsageDigest:
    """The SHA-256 of lines "position,time,value", one for each record, in the order they are added.

    The value is plain decimal text or, under the formula unique_count, the unique value as JSON text.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, record: UsageRecord) -> None:
        """Add the line of a record."""
        value = counted_value(record.value, record.unique_value)
        self._sha256.update(f"{record.position},{microseconds_to_iso(record.occurred_at)},{value}\n".encode())

    def hexdigest(self) -> str:
        """Return the digest of the records added so far."""
        return self._sha256.hexdigest()


def usage_digest(records: Iterable[UsageRecord]) -> str:
    """Return the digest of the records, ordered by time and position."""
    digest = UsageDigest()
    for record in sorted(records, key=_BY_TIME):
        digest.add(record)
    return digest.hexdigest()


_BY_TIME = attrgetter("occurred_at", "position")
