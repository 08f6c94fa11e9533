"""Times over HTTP: seconds since 1970 in v1, RFC 3339 in v2."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from ...domain.instants import MICROSECONDS_PER_SECOND, instant, microseconds

FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
UnixTime = Annotated[int, Meta(ge=FIRST_SECOND, le=LAST_SECOND, description="Seconds since 1970, UTC.")]
Rfc3339 = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="RFC 3339, to the millisecond.")]


def unix(at: datetime) -> int:
    """A time in whole seconds, cut."""
    return microseconds(at) // MICROSECONDS_PER_SECOND


def at_unix(seconds: int) -> datetime:
    """The time that is so many seconds after 1970."""
    return instant(seconds * MICROSECONDS_PER_SECOND)


def rfc3339(at: datetime) -> str:
    """A time as v2 tells it, cut to milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
