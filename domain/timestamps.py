"""Aware datetimes, used in the API, from and to ISO text and microseconds since 1970 UTC, used internally."""

import re
from datetime import UTC, datetime, timedelta

import msgspec

from .errors import InvalidTimeRange, InvalidTimestamp
from .plain_types import PLAIN_DATETIME_TYPES, plain_datetime
from .text import abbreviated_repr

MICROSECONDS_PER_SECOND = 1_000_000
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET = r"(?:Z|[+-][0-9]{2}(?::?[0-5][0-9](?::[0-5][0-9])?)?)?"
_ISO = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[Tt ][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:[.,][0-9]+)?)?{_OFFSET})?"
    rf"|[0-9]{{8}}(?:[Tt][0-9]{{4}}(?:[0-9]{{2}}(?:[.,][0-9]+)?)?{_OFFSET})?"
)
MIN_DATETIME, MAX_DATETIME = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def to_microseconds(at: datetime) -> int:
    """Return the microseconds from 1970 UTC to `at`, negative before. Unlike a float timestamp this is exact."""
    return (at - EPOCH) // MICROSECOND


def from_microseconds(at_microseconds: int) -> datetime:
    """Return the UTC datetime `at_microseconds` after 1970."""
    return EPOCH + at_microseconds * MICROSECOND


def parse_iso(text: str) -> datetime:
    """Return the time of an ISO date (its midnight) or datetime, naive if it has no offset. Raises ValueError.

    A datetime has hours and minutes after a T or a space, optional seconds and fraction, and an optional offset; digits
    beyond microseconds are truncated. Other text that `datetime.fromisoformat` reads is rejected: it takes the offset
    in 2026-03-01+02:00 and the year in 2026-03-01/2026 for a time of day.
    """
    if _ISO.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not an ISO date or datetime")
    return datetime.fromisoformat(text)


def ensure_utc(at: object, field: str) -> datetime:
    """Return `at` in UTC. Raises InvalidTimestamp with `field` if `at` is not an aware datetime."""
    if isinstance(at, datetime) and type(at) in PLAIN_DATETIME_TYPES and at.tzinfo is UTC:
        return at
    plain = plain_datetime(at)
    if plain is None:
        raise InvalidTimestamp(
            f"{field!r} must be a datetime with a timezone, like datetime(2026, 11, 1, tzinfo=UTC), not "
            f"{abbreviated_repr(at)}.",
            field=field,
            value=at,
        )
    try:
        return plain.astimezone(UTC)
    except OverflowError as error:
        raise InvalidTimestamp(f"{field!r} is out of range in UTC: {plain!r}.", field=field, value=plain) from error


def ensure_time_range(start: object, end: object) -> tuple[datetime, datetime]:
    """Return [start, end) in UTC; it may be empty. Raises InvalidTimeRange for a naive bound or if start > end."""
    try:
        utc_start, utc_end = ensure_utc(start, "start"), ensure_utc(end, "end")
    except InvalidTimestamp as error:
        raise InvalidTimeRange(error.message, field=error.field, value=error.value) from error
    if utc_start > utc_end:
        raise InvalidTimeRange(
            f"The range starts at {utc_start} after it ends at {utc_end}.", field="start", value=start
        )
    return utc_start, utc_end


def to_iso(at: datetime) -> str:
    """Return `at` as RFC 3339 text in UTC, with a Z."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def microseconds_to_iso(at_microseconds: int) -> str:
    """Return the time `at_microseconds` after 1970 as RFC 3339 text in UTC; msgspec is several times faster here."""
    return _encode(from_microseconds(at_microseconds))[1:-1].decode()


_encode = msgspec.json.Encoder().encode
