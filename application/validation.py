"""Checks of call arguments. Each error names the argument, its value and what is valid."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar, cast

from ..domain.errors import InvalidAsOf, InvalidParameter, InvalidTimeRange
from ..domain.rules import EventTimeWindow, Formula, Rules
from ..domain.text import abbreviated_repr, is_storable
from ..domain.timestamps import MAX_DATETIME, MIN_DATETIME, is_aware, to_microseconds
from ..projections.models import AsOf

MAX_DIMENSIONS = 10

Choice = TypeVar("Choice", bound=StrEnum)


def require_text(value: object, field: str, max_length: int) -> str:
    """Return text of 1 to `max_length` characters. Raises InvalidParameter."""
    if not isinstance(value, str) or not 1 <= len(value) <= max_length or not is_storable(value):
        raise InvalidParameter(
            f"{field!r} must be text of 1 to {max_length} characters, not {abbreviated_repr(value)}.",
            field=field,
            value=value,
        )
    return value


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
        return choices(cast(str, value))
    except ValueError:
        allowed = ", ".join(repr(str(choice)) for choice in choices)
        raise InvalidParameter(
            f"{field!r} must be one of {allowed}, not {abbreviated_repr(value)}.", field=field, value=value
        ) from None


def require_int(value: object, field: str, minimum: int, maximum: int) -> int:
    """Return a whole number from `minimum` to `maximum`. Raises InvalidParameter."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise InvalidParameter(
            f"{field!r} must be a whole number from {minimum} to {maximum}, not {abbreviated_repr(value)}.",
            field=field,
            value=value,
        )
    return value


def require_bool(value: object, field: str) -> bool:
    """Return a bool. Raises InvalidParameter."""
    if not isinstance(value, bool):
        raise InvalidParameter(
            f"{field!r} must be True or False, not {abbreviated_repr(value)}.", field=field, value=value
        )
    return value


def require_time_range(start: datetime, end: datetime) -> tuple[int, int]:
    """Return the half-open range [start, end) in microseconds since 1970 UTC. Raises InvalidTimeRange."""
    first, last = _to_bound(start, "start"), _to_bound(end, "end")
    if first > last:
        raise InvalidTimeRange(f"The range starts at {start} after it ends at {end}.", field="start", value=start)
    return first, last


def optional_time_range(start: datetime | None, end: datetime | None) -> tuple[int | None, int | None]:
    """Return a range in microseconds that is open at an end that is None. Raises InvalidTimeRange."""
    if start is not None and end is not None:
        return require_time_range(start, end)
    return None if start is None else _to_bound(start, "start"), None if end is None else _to_bound(end, "end")


def parse_as_of(as_of: object) -> AsOf | None:
    """Return the `as_of` argument of a query as an AsOf; None for now. Raises InvalidAsOf."""
    if as_of is None:
        return None
    if isinstance(as_of, int) and not isinstance(as_of, bool) and as_of >= 0:
        return AsOf(position=as_of)
    if is_aware(as_of):
        return AsOf(recorded_at=to_microseconds(as_of))
    raise InvalidAsOf(
        "'as_of' must be a datetime with a timezone or a position in the ledger from 0 up, not "
        f"{abbreviated_repr(as_of)}.",
        field="as_of",
        value=as_of,
    )


def parse_rules(
    formula: object, event_time_window: object, customer_key: object, value_key: object, dimension_keys: object
) -> Rules:
    """Return the rules of a meter from its arguments. Raises InvalidParameter."""
    return Rules(
        formula=require_choice(formula, "formula", Formula),
        event_time_window=(
            None
            if event_time_window is None
            else require_choice(event_time_window, "event_time_window", EventTimeWindow)
        ),
        customer_key=require_text(customer_key, "customer_key", 100),
        value_key=require_text(value_key, "value_key", 100),
        dimension_keys=require_texts(dimension_keys, "dimension_keys", 100, MAX_DIMENSIONS),
    )


def apply_rule_changes(current: Rules, changes: object) -> Rules:
    """Return `current` with some fields replaced by those of the mapping `changes`. Raises InvalidParameter."""
    if not isinstance(changes, Mapping) or not changes.keys() <= Rules.model_fields.keys():
        fields = ", ".join(repr(field) for field in Rules.model_fields)
        raise InvalidParameter(
            f"'rules' must map some of {fields} to new values, not {abbreviated_repr(cast(object, changes))}.",
            field="rules",
            value=cast(object, changes),
        )
    return parse_rules(**{**dict(current), **cast(Mapping[str, object], changes)})


def _to_bound(at: object, field: str) -> int:
    if not is_aware(at):
        raise InvalidTimeRange(
            f"{field!r} must be a datetime with a timezone, like datetime(2026, 11, 1, tzinfo=UTC), not "
            f"{abbreviated_repr(at)}.",
            field=field,
            value=at,
        )
    return min(max(to_microseconds(at), to_microseconds(MIN_DATETIME)), to_microseconds(MAX_DATETIME))
