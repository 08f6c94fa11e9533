"""Conditions as they are typed and shown: KEY=VALUE for dimensions and simple filters, JSON for any filter."""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ...domain.conditions import Condition

_SIGNS = {"greater_than": ">", "at_least": ">=", "less_than": "<", "at_most": "<="}


def parse_pair(text: str, parameter: str) -> tuple[str, str]:
    """Return key and value of text like `region=eu`; the value may be empty. Raises BadParameter."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE.", param_hint=f"'{parameter}'")
    return key, value


def parse_where(pairs: Iterable[str], absent_keys: Iterable[str]) -> dict[str, list[str | None]] | None:
    """Return the values to select by dimension key; None if all usage is selected. Raises BadParameter.

    The pairs of one key select any of their values. An absent key selects usage without this dimension.
    """
    values: dict[str, list[str | None]] = {}
    for pair in pairs:
        key, value = parse_pair(pair, "--where")
        values.setdefault(key, []).append(value)
    for key in absent_keys:
        values.setdefault(key, []).append(None)
    return values or None


def parse_filter(texts: Iterable[str]) -> dict[str, object]:
    """Return the condition that all of the texts describe, as plain data. Raises BadParameter.

    A text is `KEY=VALUE`, `KEY!=VALUE` or a condition in JSON. The pairs of one key match any of their values, or none
    of them with `!=`.
    """
    conditions: list[dict[str, object]] = []
    values_by_key: dict[tuple[str, bool], list[str]] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            conditions.append(_parse_json(text))
        else:
            key, value = parse_pair(text, "--filter")
            values_by_key.setdefault((key.removesuffix("!"), key.endswith("!")), []).append(value)
    for (key, is_negated), values in values_by_key.items():
        condition: dict[str, object] = {"key": key}
        condition |= {"equals": values[0]} if len(values) == 1 else {"one_of": values}
        conditions.append({"not": condition} if is_negated else condition)
    return conditions[0] if len(conditions) == 1 else {"all": conditions}


def parse_rounding(text: str) -> dict[str, str]:
    """Return the rounding of text like `up` or `half_up:0.01`, as plain data."""
    mode, separator, step = text.partition(":")
    return {"mode": mode, "step": step} if separator else {"mode": mode}


def format_filter(condition: "Condition") -> str:
    """Return a condition in words, like `region = eu or us`."""
    return _in_words(condition.model_dump(by_alias=True))


def _parse_json(text: str) -> dict[str, object]:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise typer.BadParameter(
            f"{text!r} is neither KEY=VALUE nor a condition in JSON: {reason}.", param_hint="'--filter'"
        ) from None


def _in_words(condition: Mapping[str, Any]) -> str:
    match condition:
        case {"not": {"key": key, "equals": text}}:
            return f"{key} != {text}"
        case {"not": negated}:
            return f"not ({_in_words(negated)})"
        case {"all": parts}:
            return " and ".join(map(_as_operand, parts))
        case {"any": parts}:
            return " or ".join(map(_as_operand, parts))
        case _:
            return f"{condition['key']} {_test_in_words(condition)}"


def _test_in_words(condition: Mapping[str, Any]) -> str:
    match condition:
        case {"equals": text}:
            return f"= {text}"
        case {"one_of": texts}:
            return f"= {' or '.join(texts)}"
        case {"exists": exists}:
            return "exists" if exists else "is absent"
        case _:
            return " and ".join(f"{sign} {condition[name]}" for name, sign in _SIGNS.items() if name in condition)


def _as_operand(condition: Mapping[str, Any]) -> str:
    """Return a part of `all` or `any` in words, in parentheses if it contains "and" or "or" itself."""
    words = _in_words(condition)
    is_compound = "not" not in condition and (" and " in words or " or " in words)
    return f"({words})" if is_compound else words
