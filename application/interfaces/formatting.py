"""Numbers, times and rules as text, and results as JSON."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .condition_text import format_filter

if TYPE_CHECKING:
    from ...domain.rounding import Rounding
    from ...domain.rules import Rules
    from ..meter_views import MeterView
    from ..results import MeterEventView


def format_number(value: Decimal | int | None) -> str:
    """Return an exact number with thousands separators; "-" for None."""
    return "-" if value is None else format(value, ",f" if isinstance(value, Decimal) else ",d")


def format_difference(value: Decimal) -> str:
    """Return a number with its sign, also if it is positive."""
    return f"+{format_number(value)}" if value > 0 else format_number(value)


def format_count(count: int, singular: str, plural: str | None = None) -> str:
    """Return a count with its noun in the singular or plural; the plural ends in s by default."""
    return f"{format_number(count)} {singular if count == 1 else plural or f'{singular}s'}"


def format_time(at: datetime, timezone: tzinfo | None = None) -> str:
    """Return a time in the local time of `timezone`, with the offset if the hour occurs twice; or in UTC with a Z."""
    if timezone is None:
        return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}Z"
    return format_local(at.astimezone(timezone))


def format_local(local: datetime, timespec: str = "auto") -> str:
    """Return a local time, with its offset if the hour occurs twice, as at the end of daylight saving time."""
    has_fixed_offset = local.tzinfo is not None and local.tzinfo.utcoffset(None) is not None
    is_repeated = not has_fixed_offset and local.replace(fold=1 - local.fold).utcoffset() != local.utcoffset()
    return (local if is_repeated else local.replace(tzinfo=None)).isoformat(sep=" ", timespec=timespec)


def format_window_start(start: datetime, window: str, timezone: tzinfo) -> str:
    """Return the start of a window: the date, or the time with the zone, as an hour can occur twice in a night."""
    local = start.astimezone(timezone)
    pattern = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d"}.get(window)
    return f"{format_local(local, 'minutes')} {local:%Z}" if pattern is None else local.strftime(pattern)


def format_formula(formula: str, window: str | None) -> str:
    """Return a meter's formula, with its event time window if it has one."""
    return f"{formula} per {window}" if window else str(formula)


def format_rounding(rounding: "Rounding") -> str:
    """Return how a billable quantity is rounded, like `half up to 0.01`."""
    return f"{rounding.mode.replace('_', ' ')} to {format_number(rounding.step)}"


def format_quantity(rules: "Rules | MeterView") -> str:
    """Return how a meter's quantity is computed: its formula, multiplier and rounding."""
    multiplier = f", times {rules.multiplier}" if rules.multiplier is not None else ""
    rounding = f", rounded {format_rounding(rules.rounding)}" if rules.rounding is not None else ""
    return format_formula(rules.formula, rules.event_time_window) + multiplier + rounding


def format_keys(rules: "Rules | MeterView") -> str:
    """Return a meter's payload keys: those of the customer, the value and the dimensions."""
    optional = (f"optional {key}" for key in rules.optional_dimension_keys)
    return ", ".join((rules.customer_key, rules.value_key, *rules.dimension_keys, *optional))


def format_rules(rules: "Rules | MeterView") -> str:
    """Return a meter's rules on one line."""
    filter_text = f"; filter: {format_filter(rules.filter)}" if rules.filter is not None else ""
    return f"{format_quantity(rules)} (keys: {format_keys(rules)}{filter_text})"


def format_effective_from(at: datetime | None) -> str:
    """Return from when on rules apply, as the end of a sentence; empty for all usage."""
    return "" if at is None else f" for usage from {format_time(at)} on"


def format_requester(reason: str | None, by: str | None, on_behalf_of: str | None = None) -> str:
    """Return the author and the reason of a change as the end of a sentence."""
    return (f" by {format_author(by, on_behalf_of)}" if by else "") + (f": {reason}" if reason else "")


def format_author(by: str | None, on_behalf_of: str | None, approved_by: str | None = None) -> str:
    """Return who did something, for whom if that was stated, and who approved it; nothing if it isn't known."""
    approver = f", approved by {approved_by}" if approved_by else ""
    return (by or "") + (f" on behalf of {on_behalf_of}" if on_behalf_of else "") + approver


def format_verdict(event: "MeterEventView") -> str:
    """Return whether a meter event counts, or why it does not."""
    if event.cancelled_at is not None:
        at = format_time(event.cancelled_at.replace(microsecond=0))
        return f"cancelled {at}{format_requester(event.reason, event.by, event.on_behalf_of)}"
    verdict = f"superseded by {event.superseded_by}" if event.superseded_by else str(event.verdict)
    if not event.revoked:
        return verdict
    last = event.revoked[-1]
    at = format_time(last.revoked_at.replace(microsecond=0))
    return f"{verdict}; cancellation revoked {at}{format_requester(last.revocation_reason, last.revoked_by)}"


def to_json(value: object, *, ascii_only: bool = False) -> str:
    """Return `value` as one JSON document. Characters that aren't shown, or control a terminal, are escaped."""
    text = json.dumps(to_plain(value), ensure_ascii=ascii_only, indent=2)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        character if character == "\n" or character.isprintable() else _json_escape(character) for character in text
    )


def _json_escape(character: str) -> str:
    encoded = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{encoded[start : start + 4]}" for start in range(0, len(encoded), 4))


def to_plain(value: object) -> object:
    """Return `value` as JSON types: decimals as exact text, times as ISO 8601 in UTC, objects as mappings."""
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Mapping():
            return {str(key): to_plain(item) for key, item in cast(Mapping[object, object], value).items()}
        case None | bool() | int() | float() | str():
            return value
        case Fraction() | Path():
            return str(value)
        case _:
            return _object_to_plain(value)


def _object_to_plain(value: Any) -> object:
    """Return a dataclass by its fields and properties, another object by its mapping, and an iterable as a list."""
    if is_dataclass(value):
        properties = [name for name, member in vars(type(value)).items() if isinstance(member, property)]
        names = [*(field.name for field in fields(value)), *properties]
        return {name: to_plain(getattr(value, name)) for name in names}
    for method in ("_asdict", "model_dump", "as_dict"):
        if hasattr(value, method):
            return to_plain(getattr(value, method)())
    return [to_plain(item) for item in cast(Iterable[object], value)]
