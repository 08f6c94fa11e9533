"""Rules from call arguments: the forms that are accepted, and the field and message of each error."""

import tracemalloc
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.rules_arguments import MAX_FILTER_CHARACTERS
from tallybook.domain.conditions import MAX_CONDITIONS, MAX_DEPTH, All, Equals, Not
from tallybook.domain.rounding import Rounding, RoundingMode

EU: dict[str, object] = {"key": "region", "equals": "eu"}


def nested(depth: int) -> dict[str, object]:
    """Return a condition in `depth` - 1 negations."""
    condition: dict[str, object] = EU
    for _ in range(depth - 1):
        condition = {"not": condition}
    return condition


def error_of(metering: Metering, **arguments: object) -> TallybookError:
    """Return the error of configuring a meter."""
    with pytest.raises(TallybookError) as exc_info:
        metering.meters.configure("calls", **arguments)  # type: ignore[arg-type]
    assert exc_info.value.code == "parameter_invalid"
    assert not metering.meters.list()
    return exc_info.value


@pytest.mark.parametrize(
    ("multiplier", "expected"),
    [
        ("1/3600", Fraction(1, 3600)),
        ("0.001", Fraction(1, 1000)),
        ("1000", Fraction(1000)),
        ("0.5/1.5", Fraction(1, 3)),
        (1000, Fraction(1000)),
        (Decimal("0.001"), Fraction(1, 1000)),
        (Decimal("1E+3"), Fraction(1000)),
        (Fraction(1, 3600), Fraction(1, 3600)),
        ("0." + "0" * 29 + "1", Fraction(1, 10**30)),
        ("9" * 30 + "." + "9" * 30, Fraction(10**60 - 1, 10**30)),
        (None, None),
    ],
)
def test_a_multiplier_is_an_exact_number(metering: Metering, multiplier: Any, expected: Fraction | None) -> None:
    """It stays as it is when another rule changes, and configuring the same meter again is accepted."""
    view = metering.meters.configure("calls", multiplier=multiplier)
    assert view.multiplier == expected
    assert metering.meters.configure("calls", multiplier=multiplier) == view
    assert metering.rules.change("calls", {"formula": "count"}, reason="a test").multiplier == expected
    assert metering.meters.get("calls", as_of=1).multiplier == expected


@pytest.mark.parametrize(
    "multiplier",
    [
        "0", "-1", "", "1/0", "0/1", "1e3", "+1", " 1", "1 / 2", "1/2/3", "a", "NaN", 0, -1, True, 0.001, "9" * 31,
        Decimal(0), Decimal(-1), Decimal("NaN"), Decimal("Infinity"), Decimal("1e999999999"), Fraction(0),
        Fraction(-1, 2), Fraction(1, 10**60), pytest.param(10**5_000, id="5,001 digits"),
    ],
)  # fmt: skip
def test_other_multipliers_are_rejected(metering: Metering, multiplier: object) -> None:
    """A float is no exact number, and a multiplier is above 0."""
    error = error_of(metering, multiplier=multiplier)
    assert error.field == "multiplier"
    assert error.value is multiplier or error.value != error.value


IMPLAUSIBLE_NUMBERS = (" 1", "1 ", "+1", "1e3", "1_000", ".5", "5.", "\u0661", "1." + "0" * 100, 0.1, True)
"""Most are text that `Decimal` reads as a number, and none is a number in a rule."""


@pytest.mark.parametrize("number", IMPLAUSIBLE_NUMBERS)
def test_a_bound_of_a_filter_is_an_exact_number(metering: Metering, number: object) -> None:
    """Its text is plain decimal text, as that of a value is."""
    error = error_of(metering, filter={"key": "size", "at_least": number})
    assert error.field == "filter"
    assert error.value == {"key": "size", "at_least": number}


@pytest.mark.parametrize(
    ("rounding", "mode", "step"),
    [
        ({"mode": "up"}, RoundingMode.UP, "1"),
        ({"mode": "down", "step": "0.01"}, RoundingMode.DOWN, "0.01"),
        ({"mode": "half_up", "step": 1000}, RoundingMode.HALF_UP, "1000"),
        ({"mode": "half_up", "step": Decimal("0.25")}, RoundingMode.HALF_UP, "0.25"),
        (Rounding(mode=RoundingMode.UP, step=Decimal(5)), RoundingMode.UP, "5"),
    ],
)
def test_a_rounding_has_a_mode_and_a_step(metering: Metering, rounding: Any, mode: RoundingMode, step: str) -> None:
    """The step is 1 if it is omitted."""
    view = metering.meters.configure("calls", rounding=rounding)
    assert view.rounding == Rounding(mode=mode, step=Decimal(step))


@pytest.mark.parametrize(
    "rounding",
    [
        "up", {}, {"mode": "even"}, {"step": "1"}, {"mode": "up", "step": "0"}, {"mode": "up", "step": "-1"},
        {"mode": "up", "step": "NaN"}, {"mode": "up", "step": "Infinity"}, {"mode": "up", "digits": 2},
        {"mode": "up", "step": "1" * 31}, ["up", "1"], *({"mode": "up", "step": step} for step in IMPLAUSIBLE_NUMBERS),
    ],
)  # fmt: skip
def test_other_roundings_are_rejected(metering: Metering, rounding: object) -> None:
    """The message shows the form."""
    error = error_of(metering, rounding=rounding)
    assert (error.field, error.value) == ("rounding", rounding)
    assert "{'mode': 'up', 'step': '0.01'}" in error.message


def test_a_filter_is_plain_data_or_a_condition(metering: Metering) -> None:
    """Both are the same filter."""
    data = {"all": [EU, {"not": {"key": "plan", "equals": "free"}}]}
    is_not_free = Not.model_validate({"not": {"key": "plan", "equals": "free"}})
    condition = All(conditions=(Equals(key="region", equals="eu"), is_not_free))
    view = metering.meters.configure("calls", filter=data)
    assert view.filter == condition
    assert metering.meters.configure("calls", filter=condition) == view


@pytest.mark.parametrize("size", [MAX_CONDITIONS - 1, MAX_CONDITIONS])
def test_a_filter_has_a_limited_number_of_conditions(metering: Metering, size: int) -> None:
    """The conditions in others count too."""
    conditions = {"any": [EU] * size}
    if size < MAX_CONDITIONS:
        metering.meters.configure("calls", filter=conditions)
        return
    error = error_of(metering, filter=conditions)
    assert error.field == "filter"
    assert f"at most {MAX_CONDITIONS} conditions" in error.message


@pytest.mark.parametrize("characters", [MAX_FILTER_CHARACTERS, MAX_FILTER_CHARACTERS + 1])
def test_the_texts_of_a_filter_have_a_limited_length(metering: Metering, characters: int) -> None:
    """Every query reads the rules of all meters. Each element of a list counts as one more character."""
    texts = ["x" * 999] * (characters // 1_000 - 1)
    one_of = [*texts, "x" * (characters - 1_000 * len(texts) - len("key") - len(("key", "one_of")) - 1)]
    filtered = {"key": "key", "one_of": one_of}
    if characters <= MAX_FILTER_CHARACTERS:
        metering.meters.configure("calls", filter=filtered)
        return
    assert f"at most {MAX_FILTER_CHARACTERS} characters" in error_of(metering, filter=filtered).message


MANY_ERRORS: list[dict[str, object]] = [
    {"any": [{}] * 100_000},
    {"key": "key", "one_of": [""] * 100_000},
    {"key": "key", "one_of": [""] * 900},
]


@pytest.mark.parametrize("filtered", MANY_ERRORS)
def test_a_filter_with_many_errors_takes_little_memory(metering: Metering, filtered: object) -> None:
    """A list of a million errors took a server two gigabytes, and half a minute in which nobody was answered."""
    tracemalloc.start()
    try:
        error = error_of(metering, filter=filtered)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.field == "filter"
    assert peak < 2_000_000


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 20_000])
def test_a_filter_has_a_limited_depth(metering: Metering, depth: int) -> None:
    """Far too deep, it is rejected as well."""
    if depth <= MAX_DEPTH:
        metering.meters.configure("calls", filter=nested(depth))
        return
    assert error_of(metering, filter=nested(depth)).field == "filter"


@pytest.mark.parametrize(
    "condition",
    [
        "region=eu", [], {}, {"key": "region"}, {"equals": "eu"}, {"key": "", "equals": "eu"},
        {"key": "region", "equals": ""}, {"key": "region", "equals": 1}, {"key": "region", "one_of": []},
        {"key": "region", "one_of": "eu"}, {"key": "region", "equals": "eu", "one_of": ["us"]},
        {"key": "region", "exists": "maybe"}, {"key": "size", "at_least": "many"}, {"key": "size", "at_least": "NaN"},
        {"key": "size", "like": "1%"}, {"not": [EU]}, {"all": []}, {"all": EU}, {"any": [EU, {}]},
        {"key": "k" * 101, "equals": "eu"}, {"key": "region", "equals": "e" * 5_001},
    ],
)  # fmt: skip
def test_other_filters_are_rejected(metering: Metering, condition: object) -> None:
    """The error has the field, the value and the forms of a condition."""
    error = error_of(metering, filter=condition)
    assert (error.field, error.value) == ("filter", condition)
    assert "{'key': 'region', 'equals': 'eu'}" in error.message


@pytest.mark.parametrize(
    ("dimension_keys", "optional_dimension_keys"),
    [(["region"], ["region"]), (["region"] + [f"d{n}" for n in range(5)], [f"o{n}" for n in range(5)])],
)
def test_dimensions_are_at_most_10_different_keys(
    metering: Metering, dimension_keys: list[str], optional_dimension_keys: list[str]
) -> None:
    """Required and optional ones together."""
    error = error_of(metering, dimension_keys=dimension_keys, optional_dimension_keys=optional_dimension_keys)
    assert error.field == "optional_dimension_keys"
    assert error_of(metering, optional_dimension_keys="region").field == "optional_dimension_keys"


@pytest.mark.parametrize(
    ("change", "field"),
    [({"filter": {}}, "filter"), ({"multiplier": "0"}, "multiplier"), ({"rounding": "up"}, "rounding")],
)
def test_a_rule_change_checks_the_same(metering: Metering, change: dict[str, object], field: str) -> None:
    """As of a candidate and of a rebuild."""
    metering.meters.configure("calls")
    for call in (
        lambda: metering.rules.change("calls", change, reason="a test"),
        lambda: metering.generations.build_candidate("calls", change),
        lambda: metering.generations.rebuild(rules={"calls": change}),
    ):
        with pytest.raises(TallybookError) as exc_info:
            call()
        assert (exc_info.value.code, exc_info.value.field) == ("parameter_invalid", field)
