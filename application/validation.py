"""Checks of call arguments. Each error names the argument, its value and what is valid.

Each check returns the argument as a plain value, for callers to use instead of what was passed: see `plain_types`.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeVar, cast

from ..domain.errors import InvalidAsOf, InvalidParameter, InvalidTimeRange
from ..domain.plain_types import plain_datetime, plain_int, plain_text
from ..domain.text import abbreviated_repr, is_storable
from ..domain.timestamps import MAX_DATETIME, MIN_DATETIME, to_microseconds
from ..projections.models import AsOf

MAX_CUSTOMER_LENGTH = 5_000

Choice = TypeVar("Choice", bound=StrEnum)


def require_text(value: object, field: str, max_length: int) -> str:
    """Return text of 1 to `max_length` characters. Raises InvalidParameter."""
    text = plain_text(value)
    if text is None or not 1 <= len(text) <= max_length or not is_storable(text):
        raise InvalidParameter(
            f"{field!r} must be text of 1 to {max_length} characters, not {abbreviated_repr(value)}.",
            field=field,
            value=value,
        )
    return text


def require_event_name(value: object) -> str:
    """Return text that can be the event name of a meter. Raises InvalidParameter."""
    return require_text(value, "event_name", 100)


def optional_event_names(values: object) -> tuple[str, ...] | None:
    """Return at most 1,000 different event names of meters, or None for all meters. Raises InvalidParameter."""
    return None if values is None else tuple(map(require_event_name, require_texts(values, "meters", 500, 1_000)))


def require_customer(value: object) -> str:
    """Return text that can name a customer. Raises InvalidParameter."""
    return require_text(value, "customer", MAX_CUSTOMER_LENGTH)


def optional_customer(value: object) -> str | None:
    """Return text that can name a customer, or None for all customers. Raises InvalidParameter."""
    return None if value is None else require_customer(value)


def optional_note(value: object, field: str) -> str | None:
    """Return text of 1 to 500 characters, or None. Raises InvalidParameter."""
    return None if value is None else require_text(value, field, 500)


def require_texts(values: object, field: str, max_length: int, max_count: int) -> tuple[str, ...]:
    """Return at most `max_count` different texts. Raises InvalidParameter."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidParameter(
            f"{field!r} must be a list of texts, not {abbreviated_repr(values)}.", field=field, value=values
        )
    texts = tuple(require_text(value, field, max_length) for value in cast(Iterable[object], values))
    if len(texts) > max_count or len(set(texts)) < len(texts):
        raise InvalidParameter(f"{field!r} must be at most {max_count} different texts.", field=field, value=texts)
    return texts


def require_choice(value: object, field: str, choices: type[Choice]) -> Choice:
    """Return the member of an enumeration with this value. Raises InvalidParameter."""
    try:
        return choices(cast(str, plain_text(value)))
    except ValueError:
        allowed = ", ".join(repr(str(choice)) for choice in choices)
        raise InvalidParameter(
            f"{field!r} must be one of {allowed}, not {abbreviated_repr(value)}.", field=field, value=value
        ) from None


def require_int(value: object, field: str, minimum: int, maximum: int) -> int:
    """Return a whole number from `minimum` to `maximum`. Raises InvalidParameter."""
    number = plain_int(value)
    if number is None or not minimum <= number <= maximum:
        raise InvalidParameter(
            f"{field!r} must be a whole number from {minimum} to {maximum}, not {abbreviated_repr(value)}.",
            field=field,
            value=value,
        )
    return number


def require_generation(generation: object) -> int:
    """Return the number of a generation, which may not exist. Raises InvalidParameter."""
    return require_int(generation, "generation", 1, 2**63 - 1)


def require_bool(value: object, field: str) -> bool:
    """Return a bool. Raises InvalidParameter."""
    if not isinstance(value, bool):
        raise InvalidParameter(
            f"{field!r} must be True or False, not {abbreviated_repr(value)}.", field=field, value=value
        )
    return value


class TimeRange(NamedTuple):
    """A half-open range [start, end), which may be empty. `bounds` are in microseconds since 1970 UTC."""

    start: datetime
    end: datetime
    bounds: tuple[int, int]


def require_time_range(start: object, end: object) -> TimeRange:
    """Return the range [start, end). Raises InvalidTimeRange."""
    plain_start, plain_end = _require_aware(start, "start"), _require_aware(end, "end")
    bounds = _to_bound(plain_start), _to_bound(plain_end)
    if bounds[0] > bounds[1]:
        raise InvalidTimeRange(
            f"The range starts at {plain_start} after it ends at {plain_end}.", field="start", value=plain_start
        )
    return TimeRange(plain_start, plain_end, bounds)


def optional_time_range(start: object, end: object) -> tuple[int | None, int | None]:
    """Return a range in microseconds that is open at an end that is None. Raises InvalidTimeRange."""
    if start is not None and end is not None:
        return require_time_range(start, end).bounds
    return (
        None if start is None else _to_bound(_require_aware(start, "start")),
        None if end is None else _to_bound(_require_aware(end, "end")),
    )


class Moment(NamedTuple):
    """A time in microseconds since 1970 UTC that an `as_of` argument names."""

    at: int


def parse_as_of(as_of: object) -> AsOf | Moment | None:
    """Return the point or the time that an `as_of` argument names; None for now. Raises InvalidAsOf."""
    if as_of is None:
        return None
    position, at = plain_int(as_of), plain_datetime(as_of)
    if position is not None and position >= 0:
        return AsOf(position=position)
    if at is not None:
        return Moment(_to_bound(at))
    raise InvalidAsOf(
        "'as_of' must be a datetime with a timezone or a position in the ledger from 0 up, not "
        f"{abbreviated_repr(as_of)}.",
        field="as_of",
        value=as_of,
    )


def _require_aware(at: object, field: str) -> datetime:
    plain = plain_datetime(at)
    if plain is None:
        raise InvalidTimeRange(
            f"{field!r} must be a datetime with a timezone, like datetime(2026, 11, 1, tzinfo=UTC), not "
            f"{abbreviated_repr(at)}.",
            field=field,
            value=at,
        )
    return plain


def _to_bound(at: datetime) -> int:
    return min(max(to_microseconds(at), to_microseconds(MIN_DATETIME)), to_microseconds(MAX_DATETIME))
