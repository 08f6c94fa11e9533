"""Reading the arguments of calls: each refused with its name, the value, and what is wanted."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import TypeVar, cast

from ..domain.errors import InvalidAsOf, InvalidParameter, InvalidTimeRange
from ..domain.instants import FIRST, LAST, is_aware, microseconds
from ..domain.texts import is_storable, shown
from ..projections.rows import AsOf

Choice = TypeVar("Choice", bound=StrEnum)


def text(value: object, field: str, max_length: int) -> str:
    """A text of 1 to `max_length` characters. Raises InvalidParameter."""
    if not isinstance(value, str) or not 1 <= len(value) <= max_length or not is_storable(value):
        raise InvalidParameter(
            f"{field!r} must be text of 1 to {max_length} characters, not {shown(value)}.", field=field, value=value
        )
    return value


def note(value: object, field: str) -> str | None:
    """A text of up to 500 characters, or None. Raises InvalidParameter."""
    return None if value is None else text(value, field, 500)


def texts(values: object, field: str, max_length: int, most: int) -> tuple[str, ...]:
    """Different texts, at most `most`. Raises InvalidParameter."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidParameter(f"{field!r} must be a list of texts, not {shown(values)}.", field=field, value=values)
    given = tuple(text(value, field, max_length) for value in cast(Iterable[object], values))
    if len(given) > most or len(set(given)) < len(given):
        raise InvalidParameter(f"{field!r} must be at most {most} different texts.", field=field, value=given)
    return given


def choice(value: object, field: str, choices: type[Choice]) -> Choice:
    """One of `choices`. Raises InvalidParameter."""
    try:
        return choices(cast(str, value))
    except ValueError:
        allowed = ", ".join(repr(str(one)) for one in choices)
        raise InvalidParameter(
            f"{field!r} must be one of {allowed}, not {shown(value)}.", field=field, value=value
        ) from None


def number(value: object, field: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`. Raises InvalidParameter."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidParameter(
            f"{field!r} must be a whole number from {least} to {most}, not {shown(value)}.", field=field, value=value
        )
    return value


def time_range(start: datetime, end: datetime) -> tuple[int, int]:
    """The half-open range [start, end) in microseconds. Raises InvalidTimeRange."""
    first, last = _bound(start, "start"), _bound(end, "end")
    if first > last:
        raise InvalidTimeRange(f"The range starts at {start} after it ends at {end}.", field="start", value=start)
    return first, last


def open_range(start: datetime | None, end: datetime | None) -> tuple[int | None, int | None]:
    """A range of which either end may be open. Raises InvalidTimeRange."""
    if start is not None and end is not None:
        return time_range(start, end)
    return None if start is None else _bound(start, "start"), None if end is None else _bound(end, "end")


def known_as_of(as_of: object) -> AsOf | None:
    """What was known then; None for now. Raises InvalidAsOf."""
    if as_of is None:
        return None
    if isinstance(as_of, int) and not isinstance(as_of, bool) and as_of >= 0:
        return AsOf(position=as_of)
    if is_aware(as_of):
        return AsOf(recorded_at=microseconds(as_of))
    raise InvalidAsOf(
        f"'as_of' must be a datetime with a timezone or a position in the ledger from 0 up, not {shown(as_of)}.",
        field="as_of",
        value=as_of,
    )


def _bound(at: object, field: str) -> int:
    if not is_aware(at):
        raise InvalidTimeRange(
            f"{field!r} must be a datetime with a timezone, like datetime(2026, 11, 1, tzinfo=UTC), not {shown(at)}.",
            field=field,
            value=at,
        )
    return min(max(microseconds(at), microseconds(FIRST)), microseconds(LAST))
