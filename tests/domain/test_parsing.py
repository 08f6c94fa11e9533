"""Parsing of payloads: the short way for rules that read only customer and value, and the way for all others."""

import pytest
from tallybook.domain.errors import TallybookError
from tallybook.domain.rules import Rules

PAYLOADS: list[dict[str, str]] = [
    {"customer": "acme", "value": "25"},
    {"customer": "acme", "value": "-0.50"},
    {"customer": "acme", "value": "0"},
    {"customer": "acme", "value": "1e3"},
    {"customer": "acme", "value": ""},
    {"customer": "acme"},
    {"customer": "", "value": "1"},
    {"customer": "a\0b", "value": "1"},
    {"customer": "", "value": "bad"},
    {"value": "1"},
    {},
]


def outcome(rules: Rules, payload: dict[str, str]) -> object:
    """Return what the rules read, without dimensions; or the code and the field of the error."""
    try:
        customer, value, _, unique_value, is_filtered = rules.parse(payload)
    except TallybookError as error:
        return error.code, error.field, error.message
    return customer, value, unique_value, is_filtered


@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
def test_rules_without_dimensions_read_the_same(payload: dict[str, str]) -> None:
    """The same customer and value, or the same error, as rules with an optional dimension or with a filter."""
    short = Rules(customer_key="customer")
    with_dimension = short.model_copy(update={"optional_dimension_keys": ("region",)})
    matching = Rules.model_validate({"customer_key": "customer", "filter": {"not": {"key": "env", "exists": True}}})
    assert outcome(short, payload) == outcome(with_dimension, payload) == outcome(matching, payload)
