"""Usage by dimension values over HTTP: filters and groups, by the names of Stripe's preview."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from tallybook.application import Metering

from ...notation import Clock, Ledger
from .api_client import DAY, ApiClient, unix_time

EVENTS = "/v1/billing/meter_events"
Json = dict[str, Any]
NOVEMBER: Json = {"start_time": unix_time("01"), "end_time": unix_time("30")}
SUMMARIES: Json = {"customer": "acme", **NOVEMBER}


@pytest.fixture
def meter(ledger: Ledger, api: ApiClient) -> str:
    """The path of a meter with the dimension `model` and the optional dimension `region`."""
    configured = api.post(
        "/v1/billing/meters/configure",
        event_name="tokens",
        customer_mapping={"event_payload_key": "customer"},
        value_settings={"event_payload_key": "tokens"},
        dimension_payload_keys=["model"],
        optional_dimension_payload_keys=["region"],
    )
    ledger.given("""
        10:00     acme tokens 1    id=a  model=small  region=eu
        10:10     acme tokens 2    id=b  model=large  region=eu
        11:10     acme tokens 4.5  id=c  model=small  region=us
        11T09:00  acme tokens 8    id=d  model=small
        11T09:10  bolt tokens 16   id=e  model=large
    """)
    return f"/v1/billing/meters/{configured['id']}"


def groups_of(items: Iterable[Json], *names: str) -> list[tuple[Any, ...]]:
    """Return the values of dimensions and the total of each item."""
    return [(*(item["dimensions"][name] for name in names), str(item["aggregated_value"])) for item in items]


def test_summaries_by_group(api: ApiClient, meter: str) -> None:
    """One for each group with usage, in order; an absent optional dimension is null."""
    path = f"{meter}/event_summaries"
    by_model = api.get(path, **SUMMARIES, dimension_group_by_keys=["model"])["data"]
    assert groups_of(by_model, "model") == [("large", "2"), ("small", "13.5")]
    both = api.get(path, **SUMMARIES, dimension_group_by_keys=["region", "model"])["data"]
    assert groups_of(both, "region", "model") == [
        (None, "small", "8"), ("eu", "large", "2"), ("eu", "small", "1"), ("us", "small", "4.5"),
    ]  # fmt: skip
    assert [*both[0]["dimensions"]] == ["region", "model"]
    (in_total,) = api.get(path, **SUMMARIES)["data"]
    assert (str(in_total["aggregated_value"]), "dimensions" in in_total) == ("15.5", False)
    assert api.get(path, **{**SUMMARIES, "customer": "cora"}, dimension_group_by_keys=["model"])["data"] == []


def test_summaries_by_window_and_group(api: ApiClient, meter: str) -> None:
    """The newest window first, and its groups in order."""
    params = {**SUMMARIES, "value_grouping_window": "day", "dimension_group_by_keys": ["model"]}
    summaries = api.get(f"{meter}/event_summaries", **params)["data"]
    assert [(summary["start_time"], *group) for summary, group in zip(
        summaries, groups_of(summaries, "model"), strict=True
    )] == [
        (unix_time("11"), "small", "8"), (unix_time("10"), "large", "2"), (unix_time("10"), "small", "5.5"),
    ]  # fmt: skip


FILTERS: list[tuple[Json, str]] = [
    ({"dimension_filters[model]": "small"}, "13.5"),
    ({"dimension_filters[model][]": "large"}, "2"),
    ({"dimension_filters[model][0]": "small", "dimension_filters[model][1]": "large"}, "15.5"),
    ({"dimension_filters[model]": "small", "dimension_filters[region]": "eu"}, "1"),
    ({"dimension_filters[region]": ""}, "8"),
    ({"dimension_filters[region][0]": "", "dimension_filters[region][1]": "us"}, "12.5"),
    ({"dimension_filters[model]": "unknown"}, "0"),
    ({"dimension_filters": ""}, "15.5"),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_filters(api: ApiClient, meter: str, filters: Json, expected: str) -> None:
    """One value or a list for each dimension; an empty value selects usage without it."""
    (summary,) = api.get(f"{meter}/event_summaries", **SUMMARIES, **filters)["data"]
    assert str(summary["aggregated_value"]) == expected
    totals = api.get(f"{meter}/totals", **NOVEMBER, **filters)["data"]
    assert sum(total["aggregated_value"] for total in totals if total["customer"] == "acme") == Decimal(expected)


def test_empty_text_and_no_dimension_are_two_groups(ledger: Ledger, api: ApiClient, meter: str) -> None:
    """An empty filter selects both, because a query can't tell them apart."""
    ledger.given("12:00  acme tokens 100  model=small  region=")
    path = f"{meter}/event_summaries"
    params = {**SUMMARIES, "dimension_filters[region]": "", "dimension_group_by_keys": ["region"]}
    assert groups_of(api.get(path, **params)["data"], "region") == [(None, "8"), ("", "100")]


def test_totals_by_group(api: ApiClient, meter: str) -> None:
    """Each customer has one for each group, with its smallest and largest value."""
    totals = api.get(f"{meter}/totals", **NOVEMBER, dimension_group_by_keys=["model"])["data"]
    assert [total["customer"] for total in totals] == ["acme", "acme", "bolt"]
    assert groups_of(totals, "model") == [("large", "2"), ("small", "13.5"), ("large", "16")]
    assert [(total["min"], total["max"], total["count"]) for total in totals] == [(2, 2, 1), (1, 8, 3), (16, 16, 1)]
    assert api.get(f"{meter}/totals", **NOVEMBER)["data"][0]["dimensions"] is None


def test_pages_of_groups_are_stable(ledger: Ledger, api: ApiClient, meter: str) -> None:
    """Each group once, in both directions, also after a group that no longer has usage; long values too."""
    ledger.metering.record("tokens", {"customer": "acme", "tokens": "1", "model": "m" * 5_000})
    lists: list[tuple[str, Json]] = [
        (f"{meter}/event_summaries", {**SUMMARIES, "dimension_group_by_keys": ["model", "region"]}),
        (f"{meter}/event_summaries",
         {**SUMMARIES, "dimension_group_by_keys": ["model", "region"], "value_grouping_window": "hour"}),
        (f"{meter}/totals", {**NOVEMBER, "dimension_group_by_keys": ["model", "region"]}),
    ]  # fmt: skip
    complete = [api.get(path, **params, limit=100)["data"] for path, params in lists]
    for (path, params), items in zip(lists, complete, strict=True):
        assert len(items) >= 5
        assert api.list_all(path, **params, limit=1) == api.list_all(path, **params, limit=2) == items
        before = api.get(path, **params, limit=2, ending_before=items[-1]["id"])
        assert (before["data"], before["has_more"]) == (items[-3:-1], True)
        assert max(len(item["id"]) for item in items) < 500
    ledger.given("cancel b")
    for (path, params), items in zip(lists, complete, strict=True):
        at = next(at for at, item in enumerate(items) if item["dimensions"] == {"model": "large", "region": "eu"})
        following = api.get(path, **params, starting_after=items[at]["id"], limit=100)["data"]
        assert following == items[at + 1 :]


def test_a_cursor_of_another_query_is_rejected(api: ApiClient, meter: str) -> None:
    """Other groups, or of summaries other filters."""
    for path, params in ((f"{meter}/event_summaries", SUMMARIES), (f"{meter}/totals", NOVEMBER)):
        groups: list[Json] = [{}, {"dimension_group_by_keys": ["model"]}, {"dimension_group_by_keys": ["region"]}]
        queries = [{**params, **by_dimension} for by_dimension in groups]
        cursors = [api.get(path, **query)["data"][0]["id"] for query in queries]
        for query, own in zip(queries, cursors, strict=True):
            for cursor in cursors:
                if cursor != own:
                    assert api.error("GET", path, **query, starting_after=cursor) == (
                        400, "resource_missing", "starting_after",
                    )  # fmt: skip
    path = f"{meter}/event_summaries"
    cursor = api.get(path, **SUMMARIES, **{"dimension_filters[model]": "small"})["data"][0]["id"]
    assert api.error("GET", path, **SUMMARIES, starting_after=cursor) == (400, "resource_missing", "starting_after")


def test_an_explanation_of_some_values_by_group(ledger: Ledger, api: ApiClient, meter: str) -> None:
    """The events of the filter alone, with their dimension values; the groups add up to the total."""
    params = {**SUMMARIES, "dimension_filters[model][]": "small", "dimension_group_by_keys": ["region"]}
    explanation = api.get(f"{meter}/explanation", **params)
    assert [event["identifier"] for event in explanation["events"]["data"]] == ["a", "c", "d"]
    assert [event["dimensions"] for event in explanation["events"]["data"]] == [
        {"model": "small", "region": "eu"}, {"model": "small", "region": "us"}, {"model": "small", "region": None},
    ]  # fmt: skip
    assert groups_of(explanation["groups"], "region") == [(None, "8"), ("eu", "1"), ("us", "4.5")]
    assert explanation["total"]["aggregated_value"] == Decimal("13.5")
    assert explanation["total"]["dimensions"] is None
    assert api.get(f"{meter}/explanation", **SUMMARIES)["groups"] == []


def test_events_of_dimension_values(api: ApiClient, meter: str) -> None:
    """With the other filters, but not with an identifier."""

    def identifiers(**params: object) -> str:
        return "".join(event["identifier"] for event in api.get(EVENTS, event_name="tokens", **params)["data"])

    small = {"dimension_filters[model]": "small"}
    assert (identifiers(), identifiers(**small)) == ("abcde", "acd")
    assert identifiers(**small, start_time=unix_time("11:00"), end_time=unix_time("11")) == "c"
    assert (
        "".join(event["identifier"] for event in api.list_all(EVENTS, event_name="tokens", limit=1, **small)) == "acd"
    )
    assert api.error("GET", EVENTS, event_name="tokens", identifier="a", **small) == (400, "parameter_invalid", "")


def test_a_filtered_event_is_listed_and_explained(ledger: Ledger, api: ApiClient, meter: str) -> None:
    """With the status `filtered` and no contribution."""
    api.post(f"{meter}/rules", filter={"key": "region", "equals": "eu"}, reason="only the EU is billed")
    events = api.get(f"{meter}/explanation", **NOVEMBER)["events"]["data"]
    assert [(event["identifier"], event["status"], event["contribution"]) for event in events] == [
        ("a", "counted", 1), ("b", "counted", 2), ("c", "filtered", 0), ("d", "filtered", 0), ("e", "filtered", 0),
    ]  # fmt: skip
    assert [event["value"] for event in events] == [1, 2, None, None, None]
    assert api.get(f"{EVENTS}/{events[2]['id']}")["status"] == "filtered"


def test_a_period_is_closed_and_adjusted_by_group(ledger: Ledger, api: ApiClient, clock: Clock, meter: str) -> None:
    """Its groups are frozen; an adjustment has the difference of each group, of all or of some values."""
    clock.now = clock.now.replace(day=12, hour=3)
    meter_id = meter.rpartition("/")[2]
    period: Json = {"start_time": unix_time("10"), "end_time": unix_time("12")}
    closed = api.post(
        "/v1/billing/closed_periods", meter=meter_id, customer="acme", **period, dimension_group_by_keys=["model"]
    )
    assert groups_of(closed["groups"], "model") == [("large", "2"), ("small", "13.5")]
    assert [(group["count"], group["sum"], group["last"]) for group in closed["groups"]] == [
        (1, 2, 2), (3, Decimal("13.5"), 8),
    ]  # fmt: skip
    ledger.given("""
        cancel d
        11T10:00  acme tokens 32  id=f  model=large  region=us  recorded=12T04:00
    """)
    assert api.get("/v1/billing/closed_periods")["data"][0]["groups"] == closed["groups"]
    adjustments = "/v1/billing/period_adjustments"
    by_model = {"dimension_group_by_keys": ["model"]}
    (adjustment,) = api.get(adjustments, meter=meter_id, **by_model)["data"]
    assert adjustment["difference"] == 24
    assert [(group["dimensions"]["model"], str(group["aggregated_value"]), str(group["difference"]))
            for group in adjustment["groups"]] == [("large", "34", "32"), ("small", "5.5", "-8.0")]  # fmt: skip
    path = f"{adjustments}/{adjustment['id']}"
    assert api.get(path, **by_model) == adjustment
    small = {"dimension_filters[model]": "small"}
    assert api.get(path, **small)["difference"] == -8
    assert [event["identifier"] for event in api.get(f"{path}/events", **small)["data"]] == ["d"]
    assert api.get(adjustments, meter=meter_id, **{"dimension_filters[model]": "other"})["data"] == []
    assert api.get(adjustments, meter=meter_id)["data"][0]["groups"] == []


def test_rule_changes_are_compared_by_group(ledger: Ledger, api: ApiClient, meter: str) -> None:
    """By a dimension of the current or of the new rules; other meters need not have it."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    rules: Json = {"default_aggregation": {"formula": "max"}, "dimension_payload_keys": ["model", "tokens"]}
    preview = api.post(f"{meter}/rules_preview", **rules, dimension_group_by_keys=["model"])
    assert [(difference["dimensions"], str(difference["difference"])) for difference in preview["differences"]] == [
        ({"model": "small"}, "-5.5")
    ]
    new = api.post(f"{meter}/rules_preview", **rules, dimension_group_by_keys=["tokens"], dimension_filters={
        "tokens": ["1", "2"]
    })  # fmt: skip
    assert [(difference["dimensions"]["tokens"], str(difference["after"])) for difference in new["differences"]] == [
        ("2", "2"), ("1", "1"),
    ]  # fmt: skip
    assert api.post(f"{meter}/rules_preview", **rules)["differences"][0]["dimensions"] is None
    unknown: list[tuple[Json, str]] = [
        ({"dimension_group_by_keys": ["colour"]}, "dimension_group_by_keys"),
        ({"dimension_filters": {"colour": "red"}}, "dimension_filters"),
    ]
    for params, param in unknown:
        assert api.error("POST", f"{meter}/rules_preview", **rules, **params) == (400, "parameter_invalid", param)
    api.post("/v1/billing/meters/configure", event_name="paint", dimension_payload_keys=["colour"])
    for params, param in unknown:
        response = api.send("POST", f"{meter}/rules_preview", **rules, **params)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "parameter_invalid", param)
        assert "the meter has not all of the dimensions 'colour'" in error["message"]


KEYS, VALUES = "dimension_group_by_keys", "dimension_filters"
INVALID: list[tuple[Json, str, str]] = [
    ({KEYS: ["colour"]}, KEYS,
     f"'{KEYS}' names 'colour', which is no dimension of the meter: its dimensions are 'model', 'region'."),
    ({KEYS: ["model", "model"]}, KEYS, f"'{KEYS}' must name different dimensions, not ('model', 'model')."),
    ({KEYS: [f"k{number}" for number in range(11)]}, KEYS, f"Invalid {KEYS}: expected `array` of length <= 10."),
    ({KEYS: "model"}, KEYS, f"Invalid {KEYS}: expected `array`, got `str`."),
    ({f"{KEYS}[]": ""}, f"{KEYS}[0]", f"Invalid {KEYS}[0]: expected `str` of length >= 1."),
    ({f"{VALUES}[colour]": "red"}, VALUES,
     f"'{VALUES}' names 'colour', which is no dimension of the meter: its dimensions are 'model', 'region'."),
    ({VALUES: "red"}, VALUES, f"Invalid {VALUES}: expected `object | null`, got `str`."),
    ({f"{VALUES}[]": "red"}, VALUES, f"Invalid {VALUES}: expected `str` of length >= 1."),
    ({f"{VALUES}[model][x]": "red"}, f"{VALUES}[...]",
     f"Invalid {VALUES}[...]: expected `str | array | null`, got `object`."),
    ({f"{VALUES}[{number}]": "x" for number in range(11)}, VALUES,
     f"Invalid {VALUES}: expected `object` of length <= 10."),
    ({f"{VALUES}[model]": "x" * 5_001}, f"{VALUES}[...]", f"Invalid {VALUES}[...]: expected `str` of length <= 5000."),
]  # fmt: skip


@pytest.mark.parametrize(("params", "param", "message"), INVALID)
def test_invalid_dimensions_are_rejected(api: ApiClient, meter: str, params: Json, param: str, message: str) -> None:
    """With the parameter, and the dimensions that the meter has."""
    response = api.send("GET", f"{meter}/event_summaries", "read", **SUMMARIES, **params)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "parameter_invalid", param)
    assert error["message"] == message


def test_unknown_dimensions_are_rejected_by_each_operation(
    api: ApiClient, clock: Clock, metering: Metering, meter: str
) -> None:
    """Never ignored, because a total of all usage would look like one of some."""
    clock.now = clock.now.replace(day=12, hour=3)
    meter_id = meter.rpartition("/")[2]
    period: Json = {"meter": meter_id, "customer": "acme"}
    period |= {"start_time": unix_time("10"), "end_time": unix_time("10") + DAY}
    groups: Json = {KEYS: ["colour"]}
    filters: Json = {VALUES: {"colour": "red"}}
    for params, param in ((groups, KEYS), (filters, VALUES)):
        for path in (f"{meter}/totals", f"{meter}/explanation"):
            assert api.error("GET", path, **NOVEMBER, **params) == (400, "parameter_invalid", param)
    assert api.error("GET", EVENTS, event_name="tokens", **filters) == (400, "parameter_invalid", VALUES)
    assert api.error("POST", "/v1/billing/closed_periods", **period, **groups) == (400, "parameter_invalid", KEYS)
    api.post("/v1/billing/closed_periods", **period)
    for params, param in ((groups, KEYS), (filters, VALUES)):
        assert api.error("GET", "/v1/billing/period_adjustments", meter=meter_id, **params) == (
            400, "parameter_invalid", param,
        )  # fmt: skip
