"""Meters with rules that Stripe doesn't have: formulas, filters, optional dimensions, multipliers and rounding."""

from decimal import Decimal
from typing import Any

import pytest
from tallybook.application import InvalidParameter, Metering

from ...notation import Ledger, moment
from .api_client import ApiClient, unix_time

CONFIGURE = "/v1/billing/meters/configure"
Json = dict[str, Any]
NOVEMBER: Json = {"start_time": unix_time("01"), "end_time": unix_time("30")}
NESTED_FILTER: Json = {
    "all": [
        {"key": "region", "one_of": ["eu", "us"]},
        {"not": {"any": [{"key": "test", "exists": True}, {"key": "size", "greater_than": "100", "at_most": "200"}]}},
    ]
}
ALL_RULES: Json = {
    "customer_mapping": {"event_payload_key": "customer"},
    "default_aggregation": {"formula": "avg"},
    "dimension_payload_keys": ["model"],
    "event_time_window": "hour",
    "filter": NESTED_FILTER,
    "multiplier": "0.001",
    "optional_dimension_payload_keys": ["region"],
    "rounding": {"mode": "half_up", "step": "0.01"},
    "value_settings": {"event_payload_key": "size"},
}
CUSTOMER_MAPPING = {"event_payload_key": "customer", "type": "by_id"}
IN_RESPONSE: Json = {**ALL_RULES, "customer_mapping": CUSTOMER_MAPPING, "multiplier": "1/1000"}


@pytest.mark.parametrize("body", ["form", "json"])
def test_a_meter_with_all_rules(api: ApiClient, body: str) -> None:
    """From a form or from JSON; the meter has them in its fields."""
    params: Json = {"event_name": "bytes", "display_name": "Bytes", **ALL_RULES}
    meter = api.post(CONFIGURE, **params) if body == "form" else api.send_json(CONFIGURE, api.keys["admin"], params)
    assert {name: meter[name] for name in ALL_RULES} == IN_RESPONSE
    assert (meter["event_name"], meter["display_name"], meter["revision"]) == ("bytes", "Bytes", 1)
    assert api.get(api.meter_path("bytes")) == meter
    assert api.post(CONFIGURE, **params) == meter


def test_defaults_are_those_of_the_library(api: ApiClient) -> None:
    """A sum of all events, named like them."""
    meter = api.post(CONFIGURE, event_name="calls")
    assert (meter["display_name"], meter["default_aggregation"]) == ("calls", {"formula": "sum"})
    without_value = ("filter", "multiplier", "optional_dimension_payload_keys", "rounding", "event_time_window")
    assert {meter[name] for name in without_value} == {None}
    assert meter["customer_mapping"]["event_payload_key"] == "stripe_customer_id"


def test_a_meter_with_other_rules_exists(api: ApiClient) -> None:
    """The error names the parameter, and the meter stays as it is."""
    meter = api.post(CONFIGURE, event_name="calls")
    other_rules: list[Json] = [{"default_aggregation": {"formula": "max"}}, {"display_name": "Calls"}]
    for changes in other_rules:
        assert api.error("POST", CONFIGURE, event_name="calls", **changes) == (
            400, "meter_already_exists", "event_name",
        )  # fmt: skip
    assert api.get(api.meter_path("calls")) == meter
    assert api.error("POST", CONFIGURE, "record", event_name="bytes") == (403, "more_permissions_required", "")


TOTALS = [
    ("sum", "16"), ("count", "4"), ("last", "3"), ("max", "9"), ("min", "1"), ("avg", "4"), ("unique_count", "3"),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "expected"), TOTALS)
def test_every_formula_has_totals_and_explanations(ledger: Ledger, api: ApiClient, formula: str, expected: str) -> None:
    """Stripe's summaries too; the contributions add up."""
    meter = api.post(
        CONFIGURE,
        event_name="size",
        default_aggregation={"formula": formula},
        customer_mapping={"event_payload_key": "customer"},
        value_settings={"event_payload_key": "size"},
    )
    assert meter["default_aggregation"] == {"formula": formula}
    ledger.given("""
        10:00  acme size 1
        10:10  acme size 9
        10:20  acme size 3
        10:30  acme size 3
    """)
    path = f"/v1/billing/meters/{meter['id']}"
    (total,) = api.get(f"{path}/totals", **NOVEMBER)["data"]
    (summary,) = api.get(f"{path}/event_summaries", customer="acme", **NOVEMBER)["data"]
    explanation = api.get(f"{path}/explanation", customer="acme", **NOVEMBER)
    assert str(total["aggregated_value"]) == str(summary["aggregated_value"]) == expected
    assert sum(event["contribution"] for event in explanation["events"]["data"]) == int(expected)
    assert explanation["formula"] == formula
    unique_values = [event["unique_value"] for event in explanation["events"]["data"]]
    assert unique_values == ([*"1933"] if formula == "unique_count" else [None] * 4)


def test_a_quantity_is_multiplied_and_rounded(ledger: Ledger, api: ApiClient) -> None:
    """The total is exact, and what is billed is rounded."""
    meter = api.post(
        CONFIGURE,
        event_name="seconds",
        customer_mapping={"event_payload_key": "customer"},
        value_settings={"event_payload_key": "seconds"},
        multiplier="1/3600",
        rounding={"mode": "up", "step": "0.5"},
    )
    ledger.given("10:00  acme seconds 4500")
    (total,) = api.get(f"/v1/billing/meters/{meter['id']}/totals", **NOVEMBER)["data"]
    assert (total["aggregated_value"], total["billable_value"]) == (Decimal("1.25"), Decimal("1.5"))


def test_each_rule_is_changed_and_removed(ledger: Ledger, api: ApiClient, metering: Metering) -> None:
    """`none` removes what a form can't leave empty; a list is emptied by JSON."""
    ledger.given("""
        meter  size  sum
        10:00  acme size 5  model=small  region=eu
    """)
    path = api.meter_path("size")
    changed = api.post(f"{path}/rules", **ALL_RULES, reason="all of them")
    assert {name: changed[name] for name in ALL_RULES} == IN_RESPONSE
    none = dict.fromkeys(("event_time_window", "filter", "multiplier", "rounding"), "none")
    without = api.post(f"{path}/rules", **none, reason="none of them")
    assert {without[name] for name in none} == {None}
    assert without["optional_dimension_payload_keys"] == ["region"]
    empty: Json = {"optional_dimension_payload_keys": [], "reason": "no dimension"}
    assert api.send_json(f"{path}/rules", api.keys["admin"], empty)["optional_dimension_payload_keys"] is None
    earlier = api.get(path, as_of_position=ledger.position() - 2)
    assert {name: earlier[name] for name in ALL_RULES} == IN_RESPONSE
    metering.periods.close("size", "acme", moment("09"), moment("10"))
    assert api.get("/v1/billing/closed_periods")["data"][0]["rules"]["filter"] is None


INVALID: list[tuple[Json, str]] = [
    ({"default_aggregation": {"formula": "median"}}, "default_aggregation[formula]"),
    ({"dimension_payload_keys": ["a"], "optional_dimension_payload_keys": ["a"]}, "optional_dimension_payload_keys"),
    ({"optional_dimension_payload_keys": [str(number) for number in range(11)]}, "optional_dimension_payload_keys"),
    ({"filter": "all"}, "filter"),
    ({"filter": {"key": "region"}}, "filter"),
    ({"filter": {"key": "region", "equals": "eu", "exists": True}}, "filter"),
    ({"filter": {"key": "size", "at_least": "ten"}}, "filter[at_least]"),
    ({"filter": {"key": "size", "at_least": "1e9"}}, "filter[at_least]"),
    ({"filter": {"key": "region", "exists": "maybe"}}, "filter[exists]"),
    ({"filter": {"not": {"key": "region", "is": "eu"}}}, "filter[not]"),
    ({"multiplier": "0"}, "multiplier"),
    ({"multiplier": "-1"}, "multiplier"),
    ({"multiplier": "1/0"}, "multiplier"),
    ({"rounding": {"mode": "up", "step": "0"}}, "rounding"),
    ({"rounding": {"mode": "nearest"}}, "rounding[mode]"),
    ({"rounding": {"step": "1"}}, "rounding[mode]"),
    ({"rounding": {"mode": "up", "step": "1e3"}}, "rounding[step]"),
]


@pytest.mark.parametrize(("rules", "param"), INVALID)
def test_invalid_rules_are_rejected(ledger: Ledger, api: ApiClient, rules: Json, param: str) -> None:
    """By each operation that takes rules, with the parameter."""
    ledger.given("meter calls sum")
    path = api.meter_path("calls")
    for operation, more in (
        (CONFIGURE, {"event_name": "bytes"}), (f"{path}/rules", {"reason": "x"}), (f"{path}/rules_preview", {}),
    ):  # fmt: skip
        status, code, named = api.error("POST", operation, **more, **rules)
        assert (status, code.startswith("parameter_"), named.partition("[is]")[0]) == (400, True, param)
    assert [meter["event_name"] for meter in api.get("/v1/billing/meters")["data"]] == ["calls"]


@pytest.mark.parametrize("bound", ["1e999999999", "1" * 31, "NaN", "Infinity"])
def test_a_bound_of_a_program_has_few_digits(metering: Metering, bound: str) -> None:
    """So that each filter fits into a response, whatever created it."""
    with pytest.raises(InvalidParameter, match="'filter' must be a condition"):
        metering.meters.configure("calls", filter={"key": "size", "at_least": bound})
