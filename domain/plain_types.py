"""Plain values of str, int, Decimal, timedelta and datetime from values of their subclasses.

Callers pass numpy.str_, members of enumerations, pandas.Timestamp, pendulum.DateTime, or the datetime of a library that
freezes time. Each is replaced by the plain value that it stands for, once, where a call enters. Only methods of the
base class are called: a subclass that overrides them changes neither what is stored nor how a call fails. See
docs/decisions/0027.
"""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from operator import index
from typing import cast
from zoneinfo import ZoneInfo

# A library that freezes time replaces `datetime` in every module, but neither in containers nor its methods.
PLAIN_DATETIME_TYPES = frozenset({datetime})
_TIMEZONE_TYPES = frozenset({timezone, ZoneInfo})
_combine, _date, _time = datetime.combine, datetime.date, datetime.time
_tzinfo = cast(Callable[[datetime], tzinfo | None], datetime.tzinfo.__get__)  # type: ignore[attr-defined]


def plain_text(value: object) -> str | None:
    """Return a str, or a value of a subclass as str; None for anything else."""
    return str.__str__(value) if isinstance(value, str) else None


def plain_int(value: object) -> int | None:
    """Return a whole number as int: an int, a value of a subclass, or of a type with `__index__`, such as numpy.int64.

    None for anything else, also for a bool.
    """
    if isinstance(value, bool):
        return None
    try:
        return int.__int__(index(value))  # pyright: ignore[reportArgumentType] - that is what it tells
    except Exception:  # whatever the `__index__` of a type raises
        return None


def plain_decimal(value: object) -> Decimal | None:
    """Return a Decimal, or a value of a subclass as Decimal; None for anything else."""
    return Decimal(value) if isinstance(value, Decimal) else None


def plain_timedelta(value: object) -> timedelta | None:
    """Return a timedelta, or a value of a subclass as timedelta; None for anything else."""
    return timedelta.__pos__(value) if isinstance(value, timedelta) else None


def plain_datetime(value: object) -> datetime | None:
    """Return an aware datetime as a datetime without a subclass, at the same instant; None for anything else.

    It has the same UTC offset. None is also returned for a naive datetime, for one whose timezone returns no valid
    offset, and for a time out of the range of datetime, which pandas.Timestamp can hold.
    """
    if not isinstance(value, datetime):
        return None
    if type(value) in PLAIN_DATETIME_TYPES and type(value.tzinfo) in _TIMEZONE_TYPES:
        return value
    try:
        plain = _combine(_date(value), _time(value), _tzinfo(value))
        offset = plain.utcoffset()
        return None if offset is None or value.year != plain.year else plain.replace(tzinfo=timezone(offset), fold=0)
    except Exception:  # whatever a timezone or a subclass raises
        return None
