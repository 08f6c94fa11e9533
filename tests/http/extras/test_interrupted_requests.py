"""Requests whose response was lost: a retry completes them."""

from typing import Any

import pytest
from tallybook.application.commands.rules import RuleCommands
from tallybook.application.interfaces.http.idempotency import IdempotencyStore

from ...notation import Ledger, moment
from .api_client import ApiClient, unix_time

IDEMPOTENCY_KEY: dict[str, Any] = {"headers": {"Idempotency-Key": "cut-off"}}


@pytest.fixture
def lose_response(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Raise after the change is made and before the response is stored; restore afterwards."""

    def crash(_: object, *args: object) -> None:
        raise RuntimeError("The power is cut.")

    def request_and_crash(api: ApiClient, method: str, path: str, **params: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(IdempotencyStore, "entry", crash)
            assert api.send(method, path, **IDEMPOTENCY_KEY, **params).status_code == 500

    return request_and_crash


ALL_RULES: dict[str, Any] = {
    "default_aggregation": {"formula": "max"},
    "event_time_window": "day",
    "filter": {"not": {"key": "size", "greater_than": "10"}},
    "multiplier": "0.5",
    "optional_dimension_payload_keys": ["region"],
    "rounding": {"mode": "up"},
}


@pytest.mark.parametrize("effective_from", [None, unix_time("10"), unix_time("20")], ids=["all", "past", "announced"])
def test_activated_rules_survive_a_lost_response(
    ledger: Ledger, api: ApiClient, lose_response: Any, effective_from: int | None
) -> None:
    """The rules change once, and the response contains the meter."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    path = f"{api.meter_path('calls')}/rules"
    rules: dict[str, Any] = {**ALL_RULES, "effective_from": effective_from, "reason": "a contract"}
    lose_response(api, "POST", path, **rules)
    repeated = api.post(path, **IDEMPOTENCY_KEY, **rules)
    changed = repeated["upcoming_rules"][0] if repeated["upcoming_rules"] else repeated
    assert (changed["multiplier"], changed["event_time_window"], changed["revision"]) == ("1/2", "day", 2)
    assert api.post(path, **IDEMPOTENCY_KEY, **rules) == repeated


def test_rules_that_were_not_changed_are_changed_by_the_retry(
    ledger: Ledger, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the meter has these rules now, but not for all of its usage."""
    ledger.given("""
        meter  calls  sum
        09:00  acme calls 5
        10T10:00  acme calls 5
    """)
    free = {"filter": {"key": "size", "equals": "1"}}
    ledger.metering.rules.change("calls", free, reason="a contract", effective_from=moment("10"))
    path, rules = f"{api.meter_path('calls')}/rules", dict[str, Any](free, reason="it was always so")

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("The power is cut.")

    with monkeypatch.context() as patched:
        patched.setattr(RuleCommands, "change", crash)
        assert api.send("POST", path, **IDEMPOTENCY_KEY, **rules).status_code == 500
    assert api.post(path, **IDEMPOTENCY_KEY, **rules)["revision"] == 3
    assert ledger.totals("calls") == []


def test_a_closed_and_reopened_period_survives_a_lost_response(
    ledger: Ledger, api: ApiClient, lose_response: Any
) -> None:
    """Each change is made once; a reopening with another reason is an error."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T02:00
    """)
    (period,) = api.get("/v1/billing/closed_periods")["data"]
    path = f"/v1/billing/closed_periods/{period['id']}/reopen"
    lose_response(api, "POST", path, reason="late")
    assert api.error("POST", path, reason="late") == (400, "period_not_closed", "id")
    repeated = api.post(path, **IDEMPOTENCY_KEY, reason="late")
    assert (repeated["status"], repeated["reopening"]["reason"]) == ("reopened", "late")


def test_a_settled_adjustment_survives_a_lost_response(ledger: Ledger, api: ApiClient, lose_response: Any) -> None:
    """It is settled once; what arrives between the two requests stays owed."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T02:00
        11:00  late calls 2  recorded=11T03:00
    """)
    adjustments, meter = "/v1/billing/period_adjustments", api.meter_path("calls").rpartition("/")[2]
    (adjustment,) = api.get(adjustments, meter=meter)["data"]
    path = f"{adjustments}/{adjustment['id']}/settle"
    lose_response(api, "POST", path, document="INV-8")
    ledger.given("12:00  late calls 1  recorded=11T04:00")
    repeated = api.post(path, **IDEMPOTENCY_KEY, document="INV-8")
    assert [settlement["difference"] for settlement in repeated["settlements"]] == [2]
    assert [owed["difference"] for owed in api.get(adjustments, meter=meter)["data"]] == [1]


def test_a_deleted_generation_survives_a_lost_response(ledger: Ledger, api: ApiClient, lose_response: Any) -> None:
    """The generation is deleted once, and the retry succeeds."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    number = api.post(f"{api.meter_path('calls')}/rules_preview", event_time_window="day")["generation"]
    path = f"/v1/billing/projection/generations/{number}"
    lose_response(api, "DELETE", path)
    assert api.error("DELETE", path) == (404, "resource_missing", "generation")
    assert api.send("DELETE", path, **IDEMPOTENCY_KEY).json()["deleted"] is True


def test_a_proposal_survives_a_lost_response(ledger: Ledger, api: ApiClient, lose_response: Any) -> None:
    """It is made once. The same content with another idempotency key is another proposal."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    path = "/v1/billing/proposals/cancellation"
    proposed: dict[str, Any] = {"event_name": "calls", "customer": "acme", "reason": "why"}
    lose_response(api, "POST", path, **proposed)
    first = api.post(path, **IDEMPOTENCY_KEY, **proposed)
    assert [proposal["id"] for proposal in api.get("/v1/billing/proposals")["data"]] == [first["id"]]
    assert api.post(path, headers={"Idempotency-Key": "another"}, **proposed)["id"] != first["id"]


def test_a_bulk_cancellation_survives_a_lost_response(ledger: Ledger, api: ApiClient, lose_response: Any) -> None:
    """One decision is made for each idempotency key. What arrives between the two requests isn't cancelled."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    path = "/v1/billing/meter_event_cancellations"
    selected: dict[str, Any] = {"event_name": "calls", "customer": "acme", "reason": "why"}
    lose_response(api, "POST", path, **selected)
    ledger.given("11:00  acme calls 2")
    repeated = api.post(path, **IDEMPOTENCY_KEY, **selected)
    assert (repeated["count"], repeated["status"]) == (1, "cancelled")
    assert [cancellation["id"] for cancellation in api.get(path)["data"]] == [repeated["id"]]
    assert ledger.totals("calls") == ["acme 2"]
    another = api.post(path, headers={"Idempotency-Key": "another"}, **selected)
    assert (another["count"], another["id"] == repeated["id"]) == (1, False)
