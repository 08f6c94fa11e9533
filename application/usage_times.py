"""Times as they are written in usage files."""

import re
from datetime import UTC, datetime, timedelta

from ..domain.errors import InvalidTimestamp
from ..domain.instants import EPOCH
from ..domain.texts import shown

_UNIX_SECONDS = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_WANTED = "Unix seconds, yyyy-MM-dd or an ISO datetime"


def read_time(written: object, column: str) -> datetime:
    """The moment that is written: Unix seconds, a date (its midnight) or an ISO datetime; in UTC without an offset.

    What is finer than a microsecond is cut off. Raises InvalidTimestamp, naming `column`.
    Source: Stripe's import takes yyyy-MM-dd, yyyy-MM-dd'T'HH:mm:ssZ and epoch seconds.
    """
    if written is None or written == "":
        raise InvalidTimestamp(f"There is no time under {column!r}; give {_WANTED}.", field=column, value=written)
    said = f"must be {_WANTED}"
    try:
        if isinstance(written, str):
            return _unix(written) if _UNIX_SECONDS.fullmatch(written) else _iso(written)
    except OverflowError:
        said = "is out of range (Unix times are in seconds, not milliseconds)"
    except ValueError:
        pass
    raise InvalidTimestamp(f"{column!r} {said}, not {shown(written)}.", field=column, value=written)


def _unix(text: str) -> datetime:
    seconds, _, fraction = text.partition(".")
    microseconds = int(f"{fraction:0<6}"[:6])
    return EPOCH + timedelta(seconds=int(seconds), microseconds=-microseconds if text[0] == "-" else microseconds)


def _iso(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
