"""Conditions on payloads: what each kind matches, and its form as plain data."""

from decimal import Decimal

import pytest
from pydantic import TypeAdapter, ValidationError
from tallybook.domain import Rules
from tallybook.domain.conditions import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    All,
    AnyOf,
    Compare,
    Condition,
    Equals,
    Exists,
    Not,
    OneOf,
)

ADAPTER: TypeAdapter[Condition] = TypeAdapter(Condition)
EU: dict[str, object] = {"key": "region", "equals": "eu"}
FREE: dict[str, object] = {"key": "plan", "equals": "free"}

MATCHES: list[tuple[dict[str, object], list[dict[str, str]], list[dict[str, str]]]] = [
    (EU, [{"region": "eu"}], [{"region": "EU"}, {"region": "eu "}, {}, {"plan": "eu"}]),
    ({"key": "region", "one_of": ["eu", "us"]}, [{"region": "eu"}, {"region": "us"}], [{"region": "asia"}, {}]),
    ({"key": "region", "exists": True}, [{"region": "eu"}, {"region": ""}], [{}, {"plan": "free"}]),
    ({"key": "region", "exists": False}, [{}, {"plan": "free"}], [{"region": "eu"}, {"region": ""}]),
    ({"key": "n", "greater_than": "1"}, [{"n": "1.1"}, {"n": "10"}], [{"n": "1"}, {"n": "1.0"}, {"n": "-2"}]),
    ({"key": "n", "at_least": "1"}, [{"n": "1"}, {"n": "1.00"}], [{"n": "0.99"}, {"n": "many"}, {"n": ""}, {}]),
    ({"key": "n", "less_than": "1"}, [{"n": "0.99"}, {"n": "-5"}], [{"n": "1"}, {"n": "1e-3"}]),
    ({"key": "n", "at_most": "1"}, [{"n": "1"}, {"n": "0"}], [{"n": "1.01"}]),
    ({"key": "n", "at_least": "1", "less_than": "5"}, [{"n": "1"}, {"n": "4.9"}], [{"n": "0"}, {"n": "5"}]),
    ({"not": EU}, [{"region": "us"}, {}], [{"region": "eu"}]),
    ({"not": {"not": EU}}, [{"region": "eu"}], [{"region": "us"}, {}]),
    ({"not": {"key": "n", "at_least": "1"}}, [{"n": "0"}, {"n": "many"}, {}], [{"n": "1"}]),
    ({"all": [EU, FREE]}, [{"region": "eu", "plan": "free"}], [{"region": "eu"}, {"plan": "free"}, {}]),
    ({"any": [EU, FREE]}, [{"region": "eu"}, {"region": "us", "plan": "free"}], [{"region": "us"}, {}]),
    ({"all": [EU, {"not": FREE}]}, [{"region": "eu"}], [{"region": "eu", "plan": "free"}]),
    ({"any": [EU, {"all": [FREE, {"key": "n", "exists": True}]}]}, [{"plan": "free", "n": "x"}], [{"plan": "free"}]),
]


@pytest.mark.parametrize(("data", "matching", "others"), MATCHES, ids=[str(data) for data, *_ in MATCHES])
def test_what_a_condition_matches(
    data: dict[str, object], matching: list[dict[str, str]], others: list[dict[str, str]]
) -> None:
    """A text that is no plain decimal number is no number; a missing key equals nothing."""
    matches = ADAPTER.validate_python(data).predicate()
    assert [payload for payload in matching if not matches(payload)] == []
    assert [payload for payload in others if matches(payload)] == []


@pytest.mark.parametrize("data", [data for data, *_ in MATCHES], ids=str)
def test_a_condition_is_stored_as_the_data_it_was_given_as(data: dict[str, object]) -> None:
    """So the same condition can be written again, and rules are equal after they were stored."""
    condition = ADAPTER.validate_python(data)
    assert ADAPTER.dump_python(condition, mode="json") == data
    assert ADAPTER.validate_json(ADAPTER.dump_json(condition)) == condition
    rules = Rules(filter=condition)
    assert Rules.model_validate_json(rules.model_dump_json()) == rules
    assert hash(Rules.model_validate_json(rules.model_dump_json())) == hash(rules)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (EU, Equals),
        ({"key": "region", "one_of": ["eu"]}, OneOf),
        ({"key": "region", "exists": True}, Exists),
        ({"key": "n", "at_most": "1"}, Compare),
        ({"not": EU}, Not),
        ({"all": [EU]}, All),
        ({"any": [EU]}, AnyOf),
    ],
)
def test_the_field_of_a_condition_decides_its_kind(data: dict[str, object], kind: type) -> None:
    """Nothing else is needed."""
    assert type(ADAPTER.validate_python(data)) is kind


@pytest.mark.parametrize(
    ("data", "size", "depth"),
    [
        (EU, 1, 1),
        ({"not": EU}, 2, 2),
        ({"all": [EU, FREE, EU]}, 4, 2),
        ({"any": [EU, {"all": [FREE, {"not": EU}]}]}, 6, 4),
    ],
)
def test_a_condition_has_a_size_and_a_depth(data: dict[str, object], size: int, depth: int) -> None:
    """All conditions count, those in others too."""
    condition = ADAPTER.validate_python(data)
    assert (condition.size(), condition.depth()) == (size, depth)


def chain(depth: int) -> dict[str, object]:
    """Return a condition in `depth` - 1 negations."""
    return EU if depth == 1 else {"not": chain(depth - 1)}


def test_rules_limit_the_size_and_the_depth_of_a_filter() -> None:
    """Each meter event is checked against all of it."""
    Rules.model_validate({"filter": chain(MAX_DEPTH)})
    Rules.model_validate({"filter": {"all": [EU] * (MAX_CONDITIONS - 1)}})
    for data in (chain(MAX_DEPTH + 1), {"all": [EU] * MAX_CONDITIONS}):
        with pytest.raises(ValidationError, match="at most 100 conditions, nested at most 5 deep"):
            Rules.model_validate({"filter": data})


@pytest.mark.parametrize("bounds", [{}, {"at_least": "NaN"}, {"less_than": "Infinity"}, {"at_least": None}])
def test_a_comparison_has_finite_bounds(bounds: dict[str, object]) -> None:
    """At least one."""
    with pytest.raises(ValidationError):
        Compare.model_validate({"key": "n", **bounds})


def test_a_bound_is_exact() -> None:
    """A number of any size is compared digit for digit."""
    matches = Compare(key="n", greater_than=Decimal("0." + "0" * 20 + "1")).predicate()
    assert matches({"n": "0." + "0" * 20 + "11"})
    assert not matches({"n": "0." + "0" * 20 + "10"})
