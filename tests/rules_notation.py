"""The notation of a meter's rules in scenarios, and of queries by dimension values.

Rules are words such as `max per hour by region,plan? where kind=ok,size>10 times 1/3600 rounded up 0.01`:

    per hour | day                      the event time window
    by region,plan?                     the dimensions; `plan` is optional
    where kind=ok                       the filter; `kind=ok|warn` is one of, `kind!=ok` is not, `kind` and `kind!` are
                                        present and absent, `size>10`, `>=`, `<` and `<=` compare numbers, and commas
                                        mean all of them
    times 1/3600                        the multiplier
    rounded up 0.01                     the rounding of the billable quantity, with its step

A query is `acme tokens by region,plan where region=eu|us,plan=-`; `-` is an absent optional dimension.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

COMPARISONS = {">=": "at_least", "<=": "at_most", ">": "greater_than", "<": "less_than"}
_CONDITION = re.compile(r"(\w+)(?:(>=|<=|!=|=|>|<)(.*)|(!))?")

RulesArguments = dict[str, object]
"""The arguments of `metering.meters.configure` that describe rules."""


def split_arguments(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the plain words and the options `name=value` of a line. What follows `where` is plain."""
    plain: list[str] = []
    options: dict[str, str] = {}
    for before, word in zip(("", *words), words, strict=False):
        if "=" in word and before != "where":
            name, value = word.split("=", 1)
            options[name] = value
        else:
            plain.append(word)
    return plain, options


def parse_rules(event_name: str, words: Sequence[str]) -> RulesArguments:
    """Return all arguments for the rules of a meter; those without a word have their defaults."""
    rules: RulesArguments = {
        "formula": words[0],
        "event_time_window": None,
        "customer_key": "customer",
        "value_key": event_name,
        "dimension_keys": (),
        "optional_dimension_keys": (),
        "filter": None,
        "multiplier": None,
        "rounding": None,
    }
    following = iter(words[1:])
    for word in following:
        rules |= _rules_of(word, following)
    return rules


def _rules_of(word: str, following: Iterator[str]) -> RulesArguments:
    argument = next(following)
    match word:
        case "per":
            return {"event_time_window": argument}
        case "by":
            keys = argument.split(",")
            return {
                "dimension_keys": tuple(key for key in keys if not key.endswith("?")),
                "optional_dimension_keys": tuple(key[:-1] for key in keys if key.endswith("?")),
            }
        case "where":
            return {"filter": parse_filter(argument)}
        case "times":
            return {"multiplier": argument}
        case "rounded":
            return {"rounding": {"mode": argument, "step": next(following)}}
        case _:
            raise ValueError(f"{word!r} is no word of the rules")


def parse_filter(text: str) -> Mapping[str, object]:
    """Return the condition that `text` represents."""
    conditions = [_condition(part) for part in text.split(",")]
    return conditions[0] if len(conditions) == 1 else {"all": conditions}


def _condition(text: str) -> dict[str, object]:
    match = _CONDITION.fullmatch(text)
    assert match is not None, f"{text!r} is no condition"
    key, operator, value, is_absent = match.groups()
    if operator is None:
        return {"key": key, "exists": is_absent is None}
    if operator in COMPARISONS:
        return {"key": key, COMPARISONS[operator]: value}
    texts = value.split("|")
    equals: dict[str, object] = {"key": key, "equals": value} if len(texts) == 1 else {"key": key, "one_of": texts}
    return equals if operator == "=" else {"not": equals}


class DimensionsQuery(NamedTuple):
    """A query of a customer's usage by dimension values; of all customers if `customer` is None."""

    event_name: str
    customer: str | None
    group_by: tuple[str, ...]
    where: dict[str, list[str | None]]


def parse_query(text: str) -> DimensionsQuery:
    """Return the query that `text` represents."""
    customer, event_name, *words = text.split()
    clauses = dict(zip(words[::2], words[1::2], strict=True))
    group_by = tuple(clauses["by"].split(",")) if "by" in clauses else ()
    where: dict[str, list[str | None]] = {}
    for condition in clauses["where"].split(",") if "where" in clauses else ():
        key, values = condition.split("=")
        where[key] = [None if value == "-" else value for value in values.split("|")]
    return DimensionsQuery(event_name, None if customer == "*" else customer, group_by, where)


def dimensions_text(dimensions: Mapping[str, str | None]) -> str:
    """Return dimension values as text such as `eu,-`."""
    return ",".join("-" if value is None else value for value in dimensions.values())
