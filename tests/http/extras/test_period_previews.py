"""Previews of closings, and the rules that a reopened period is closed under, over HTTP."""

from typing import Any

from ...notation import Ledger, moment
from .api_client import ApiClient, unix_time

PERIODS = "/v1/billing/closed_periods"
PREVIEW = f"{PERIODS}/preview"
Json = dict[str, Any]
PERIOD_OF_10TH: Json = {"start_time": unix_time("10"), "end_time": unix_time("11")}


def period_of(api: ApiClient, customer: str) -> Json:
    """Return the parameters of the period of a customer on the meter `calls`."""
    return {"meter": api.meter_path("calls").rpartition("/")[2], "customer": customer, **PERIOD_OF_10TH}


def test_a_preview_has_the_totals_that_a_closing_freezes(ledger: Ledger, api: ApiClient) -> None:
    """Also before the period ends, and by groups. Nothing is stored."""
    ledger.given("""
        meter  calls  sum  by region
        10:00  acme calls 5.50  region=eu
        10:01  acme calls -1    region=us
    """)
    position, parameters = ledger.position(), period_of(api, "acme")
    preview = api.post(PREVIEW, **parameters, dimension_group_by_keys=["region"])
    assert (preview["object"], preview["previous"]) == ("billing.closed_period_preview", None)
    assert (str(preview["aggregated_value"]), str(preview["difference"])) == ("4.50", "4.50")
    assert ledger.position() == position
    ledger.clock.now = moment("11T02:00")
    closed = api.post(PERIODS, **parameters, dimension_group_by_keys=["region"])
    shared = preview.keys() & closed.keys() - {"object"}
    assert {name: preview[name] for name in shared} == {name: closed[name] for name in shared}
    assert {"aggregated_value", "billable_value", "count", "digest", "groups", "position", "rules", "sum"} <= shared


def test_a_preview_has_the_difference_to_what_was_invoiced(ledger: Ledger, api: ApiClient) -> None:
    """That is the last settlement of the present or the reopened closing; the totals are those of the library."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5  id=a
        10:01  acme calls 3  id=b
        close  acme calls 10 11  at=11T01:00
        11:00  acme calls 2  id=late  recorded=11T02:00
        settle  acme calls 10 11  document=INV-8
        cancel b  at=11T03:00
    """)
    parameters = period_of(api, "acme")
    (closed,) = api.get(PERIODS)["data"]
    preview = api.post(PREVIEW, **parameters)
    expected = ledger.metering.periods.preview("calls", "acme", moment("10"), moment("11"))
    totals = {
        "aggregated_value": expected.totals.quantity, "billable_value": expected.totals.billable,
        "difference": expected.difference, "billable_difference": expected.billable_difference,
    }  # fmt: skip
    assert {name: preview[name] for name in totals} == totals
    assert (preview["aggregated_value"], preview["difference"], preview["previous"]) == (7, -3, closed)
    reopen = f"{PERIODS}/{closed['id']}/reopen"
    assert api.error("POST", reopen, reason="address") == (400, "period_settled", "withdraw_settlements")
    reopened = api.post(reopen, reason="withdrawn", withdraw_settlements=True)
    assert api.post(PREVIEW, **parameters)["previous"] == reopened
    assert [one["document"] for one in reopened["settlements"]] == ["INV-8"]


def test_a_reopened_period_is_closed_under_its_previous_rules_or_the_current_ones(
    ledger: Ledger, api: ApiClient
) -> None:
    """`rules` says which, in the preview and for the closing."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        10:01  acme calls 3
        close  acme calls 10 11  at=11T01:00
        change calls  count  at=11T02:00
    """)
    parameters = period_of(api, "acme")
    previews = [api.post(PREVIEW, **parameters), api.post(PREVIEW, **parameters, rules="current")]
    assert [(preview["aggregated_value"], preview["difference"]) for preview in previews] == [(8, 0), (2, -6)]
    assert [preview["revision"] for preview in previews] == [1, 2]
    (first,) = api.get(PERIODS)["data"]
    api.post(f"{PERIODS}/{first['id']}/reopen", reason="address")
    second = api.post(PERIODS, **parameters, rules="previous")
    assert (second["aggregated_value"], second["revision"]) == (8, 1)
    api.post(f"{PERIODS}/{second['id']}/reopen", reason="contract")
    third = api.post(PERIODS, **parameters, rules="current")
    assert (third["aggregated_value"], third["revision"]) == (2, 2)
    assert len({first["id"], second["id"], third["id"]}) == 3


def test_invalid_previews_are_rejected(ledger: Ledger, api: ApiClient) -> None:
    """The error names the parameter. A preview needs the scope `read`."""
    ledger.given("meter calls sum")
    parameters = period_of(api, "acme")
    assert api.error("POST", PREVIEW, "read", **parameters | {"rules": "new"}) == (400, "parameter_invalid", "rules")
    assert api.error("POST", PERIODS, **parameters, rules="new") == (400, "parameter_invalid", "rules")
    assert api.error("POST", PREVIEW, **parameters | {"meter": "mtr_none"}) == (400, "resource_missing", "meter")
    assert api.error("POST", PREVIEW, customer="acme") == (400, "parameter_missing", "end_time")
    reversed_period: Json = {"start_time": unix_time("11"), "end_time": unix_time("10")}
    assert api.error("POST", PREVIEW, **parameters | reversed_period) == (400, "invalid_time_range", "start_time")
    assert api.error("POST", PREVIEW, "record", **parameters) == (403, "more_permissions_required", "")
    assert api.send("POST", PREVIEW, "read", **parameters).status_code == 200
