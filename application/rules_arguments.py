"""The rules of a meter from call arguments. Each error names the argument, its value and what is valid."""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Any, TypedDict, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..domain.conditions import MAX_CONDITIONS, Condition
from ..domain.errors import InvalidParameter
from ..domain.event_time_window import EventTimeWindow
from ..domain.formulas import Formula
from ..domain.plain_types import plain_decimal, plain_int, plain_text
from ..domain.rounding import Rounding
from ..domain.rules import Rules
from ..domain.rules_schedule import RulesSchedule
from ..domain.text import abbreviated_repr
from ..domain.timestamps import from_microseconds, to_iso
from .validation import require_choice, require_text, require_texts

MAX_DIMENSIONS = 10
MAX_FILTER_CHARACTERS = 100_000
"""The most characters of all texts of a filter: every query reads the rules of all meters."""

_MAX_DIGITS = 60
_NUMBER = r"[0-9]{1,30}(?:\.[0-9]{1,30})?"
_MULTIPLIER = re.compile(rf"({_NUMBER})(?:/({_NUMBER}))?")
_MAX_TERM = 10**60
"""The limit of the numerator and the denominator of a multiplier; text with the most digits stays below it."""
_CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition, config=ConfigDict(defer_build=True))


class RulesArguments(TypedDict, total=False):
    """The arguments that describe the rules of a meter; an omitted one has its default or stays as it is."""

    formula: object
    event_time_window: object
    customer_key: object
    value_key: object
    dimension_keys: object
    optional_dimension_keys: object
    filter: object
    multiplier: object
    rounding: object


def parse_rules(arguments: RulesArguments) -> Rules:
    """Return the rules of a meter from its arguments. Raises InvalidParameter."""
    rules: dict[str, object] = {name: _PARSERS[name](value) for name, value in arguments.items()}
    try:
        parsed = Rules.model_validate(rules)
    except ValidationError as error:
        raise _invalid(error, arguments) from error
    keys = parsed.all_dimension_keys
    if len(set(keys)) < len(keys) or len(keys) > MAX_DIMENSIONS:
        raise InvalidParameter(
            f"A meter has at most {MAX_DIMENSIONS} different dimensions, required and optional ones together.",
            field="optional_dimension_keys",
            value=keys,
        )
    return parsed


def rules_from(schedule: RulesSchedule, start: int, changes: object) -> Rules:
    """Return the rules for usage from `start` on, after a change of some of them. The others are those at that time.

    Raises InvalidParameter, also if another one changes later. A change replaces all later ones, so the value of that
    one for all of this usage has to be given.
    """
    current = schedule.at(start).rules
    by_field = _changes_by_field(changes)
    later = (part for part in schedule.parts if part.start > start)
    for part, field in product(later, [field for field in Rules.model_fields if field not in by_field]):
        if getattr(part.rules, field) != getattr(current, field):
            raise InvalidParameter(
                f"{field!r} changes for usage from {to_iso(from_microseconds(part.start))} on, and a change from an "
                f"earlier time replaces that. Give {field!r} too, with its value from the earlier time on. To keep the "
                "later change, make it again afterwards.",
                field=field,
            )
    return parse_rules(cast(RulesArguments, {**dict(current), **by_field}))


def _changes_by_field(changes: object) -> dict[str | None, object]:
    """Return the new values of some rules. Raises InvalidParameter if `changes` doesn't map rules to values."""
    by_field: dict[str | None, object] = {}
    if isinstance(changes, Mapping):
        by_field = {plain_text(field): value for field, value in cast(Mapping[object, object], changes).items()}
    if not isinstance(changes, Mapping) or not by_field.keys() <= _PARSERS.keys():
        fields = ", ".join(map(repr, _PARSERS))
        raise InvalidParameter(
            f"'rules' must map some of {fields} to new values, not {abbreviated_repr(cast(object, changes))}.",
            field="rules",
            value=cast(object, changes),
        )
    return by_field


def _event_time_window(value: object) -> EventTimeWindow | None:
    return None if value is None else require_choice(value, "event_time_window", EventTimeWindow)


def _filter(value: object) -> Condition | None:
    """Return a condition from plain data. Its size is checked by `Rules`."""
    if value is None:
        return None
    _check_filter_size(value)
    try:
        return _CONDITION.validate_python(value)
    except (ValidationError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is nested too deeply"
        raise InvalidParameter(
            "'filter' must be a condition like {'key': 'region', 'equals': 'eu'}, with 'equals', 'one_of', 'exists', "
            "'greater_than', 'at_least', 'less_than' or 'at_most', or {'not': …}, {'all': […]} or {'any': […]} of "
            f"conditions, not {abbreviated_repr(value)}: {reason}.",
            field="filter",
            value=value,
        ) from error


def _check_filter_size(value: object) -> None:
    """Raise InvalidParameter for data that is too large for a filter, before it is validated.

    A million conditions, or as many errors, would take gigabytes, and seconds in which no other thread runs.
    """
    pending, conditions, characters = [value], 0, 0
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping | BaseModel):
            conditions += 1
            part = list(dict(cast(Mapping[object, object], part)).values())
        if isinstance(part, str):
            characters += len(part)
        elif isinstance(part, list | tuple):
            characters += len(cast(Sequence[object], part))
            pending += cast(Sequence[object], part)
        if conditions > MAX_CONDITIONS or characters > MAX_FILTER_CHARACTERS:
            raise InvalidParameter(
                f"'filter' is too large: it has at most {MAX_CONDITIONS} conditions, and their texts have at most "
                f"{MAX_FILTER_CHARACTERS} characters in all.",
                field="filter",
            )


def _multiplier(value: object) -> Fraction | None:
    """Return a positive number from text like '0.001' or '1/3600', an int, a Decimal or a Fraction."""
    if value is None:
        return None
    if isinstance(value, Fraction) and value > 0 and max(value.numerator, value.denominator) < _MAX_TERM:
        return value
    number, text = plain_int(value), plain_text(value)
    if number is not None and abs(number) < _MAX_TERM:
        text = str(number)
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _MAX_DIGITS:
        text = format(cast(Decimal, plain_decimal(value)), "f")
    match = None if text is None else _MULTIPLIER.fullmatch(text)
    if match is not None:
        numerator, denominator = Fraction(match[1]), Fraction(match[2] or 1)
        if numerator and denominator:
            return numerator / denominator
    raise InvalidParameter(
        "'multiplier' must be a number above 0 with at most 30 digits, as text, int, Decimal or Fraction, like '0.001' "
        f"or '1/3600', not {abbreviated_repr(value)}.",
        field="multiplier",
        value=value,
    )


def _rounding(value: object) -> Rounding | None:
    if value is None or isinstance(value, Rounding):
        return value
    try:
        return Rounding.model_validate(value)
    except ValidationError as error:
        raise InvalidParameter(
            "'rounding' must be like {'mode': 'up', 'step': '0.01'}, with the mode 'up', 'down' or 'half_up' and a "
            f"step above 0, not {abbreviated_repr(value)}.",
            field="rounding",
            value=value,
        ) from error


def _invalid(error: ValidationError, arguments: Mapping[str, Any]) -> InvalidParameter:
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "rules"
    return InvalidParameter(f"{field!r} is not valid: {first['msg']}.", field=field, value=arguments.get(field))


_PARSERS: dict[str, Callable[[object], object]] = {
    "formula": lambda value: require_choice(value, "formula", Formula),
    "event_time_window": _event_time_window,
    "customer_key": lambda value: require_text(value, "customer_key", 100),
    "value_key": lambda value: require_text(value, "value_key", 100),
    "dimension_keys": lambda value: require_texts(value, "dimension_keys", 100, MAX_DIMENSIONS),
    "optional_dimension_keys": lambda value: require_texts(value, "optional_dimension_keys", 100, MAX_DIMENSIONS),
    "filter": _filter,
    "multiplier": _multiplier,
    "rounding": _rounding,
}
