"""Proposals and access keys over HTTP: what one key proposes another approves, and no key grants more than it has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tallybook.application import Metering
from tallybook.application.commands.bulk_cancellations import BulkCancellationCommands

from ...notation import Clock
from ...proposed_changes import KINDS, bulk, record_changes
from .api_client import ApiClient, Json, serve_api

URL, POLICY, KEYS = "/v1/billing/proposals", "/v1/billing/approval_policy", "/v1/billing/access_keys"
FORBIDDEN = "more_permissions_required"


@pytest.fixture
def metering(tmp_path: Path, clock: Clock) -> Iterator[Metering]:
    """A ledger in which all kinds of changes need approval."""
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}", clock=clock) as opened:
        record_changes(opened, clock)
        yield opened


@pytest.fixture
def api(tmp_path: Path, metering: Metering, clock: Clock) -> Iterator[ApiClient]:
    """A client of the server, with keys for the duties."""
    with serve_api(f"sqlite:///{tmp_path / 'usage.db'}", metering, clock) as client:
        for scope in ("rules", "close", "cancel", "approve", "keys"):
            client.keys[scope] = metering.access_keys.create([scope]).key
        yield client


def request(api: ApiClient, path: str, scope: str, **params: Any) -> Json:
    """Return the response to a POST request of the key with a scope."""
    response = api.send("POST", path, scope, **params)
    assert response.status_code == 200, response.text
    return response.json()


def propose_each(api: ApiClient, metering: Metering) -> list[Json]:
    """Return a proposal of each kind, by the key with the scope that the change needs."""
    meter = api.meter_path("tokens").rpartition("/")[2]
    period = api.get("/v1/billing/closed_periods")["data"][0]["id"]
    stated = {"reason": "why", "by": "alice"}
    return [
        request(api, f"{URL}/rules", "rules", meter=meter, default_aggregation={"formula": "max"}, **stated),
        request(api, f"{URL}/reopening", "close", closed_period=period, **stated),
        request(api, f"{URL}/cancellation", "cancel", event_name="tokens", customer="acme", **stated),
        request(api, f"{URL}/revocation", "cancel", cancellation=bulk(metering), **stated),
        request(api, f"{URL}/policy", "admin", required=["rules"], **stated),
    ]


def test_one_key_proposes_and_another_approves(api: ApiClient, metering: Metering) -> None:
    """Each kind of change, with its preview. A change of the policy needs `admin` too."""
    assert api.error("POST", f"{api.meter_path('tokens')}/rules", "admin", reason="why",
                     default_aggregation={"formula": "max"})[:2] == (403, "approval_required")  # fmt: skip
    proposals = propose_each(api, metering)
    assert [proposal["type"] for proposal in proposals] == [
        "rules", "reopening", "cancellation", "revocation", "policy",
    ]  # fmt: skip
    assert api.list_all(URL, status="pending", limit=2) == proposals[::-1]
    assert api.get(f"{URL}/{proposals[0]['id']}") == proposals[0]
    previews = [request(api, f"{URL}/{proposal['id']}/preview", "approve") for proposal in proposals]
    assert (previews[0]["rules"]["before"], previews[0]["rules"]["after"]) == (10, 5)
    assert previews[1]["closed_period"]["aggregated_value"] == 10
    assert previews[2]["cancellation"]["count"] == 2
    for proposal in proposals[:-1]:
        assert (proposal["by"].startswith("rk_"), proposal["on_behalf_of"]) == (True, "alice")
        approved = request(api, f"{URL}/{proposal['id']}/approve", "approve")
        assert (approved["status"], approved["decided_by"]) == ("approved", api.author("approve"))
    assert api.error("POST", f"{URL}/{proposals[4]['id']}/approve", "approve") == (403, FORBIDDEN, "")
    assert api.error("POST", f"{URL}/{proposals[4]['id']}/approve", "admin") == (403, "approver_not_independent", "by")
    assert api.error("POST", f"{URL}/{proposals[0]['id']}/approve") == (409, "proposal_closed", "proposal_id")
    change = next(entry for entry in api.list_all("/v1/billing/history") if entry["event"] == "RulesChanged")
    assert change["author"]["by"] == api.author("rules")
    assert (change["author"]["approved_by"], change["author"]["proposal"]) == (
        api.author("approve"), proposals[0]["id"],
    )  # fmt: skip


def test_rejecting_and_retrying(api: ApiClient, metering: Metering) -> None:
    """A rejected proposal is closed, and remains a cursor of the pending ones. Only with `approve` is a key asked."""
    oldest, proposal, *_ = (proposed["id"] for proposed in propose_each(api, metering))
    assert api.error("POST", f"{URL}/{proposal}/reject", "close", reason="no") == (403, FORBIDDEN, "")
    rejected = request(api, f"{URL}/{proposal}/reject", "approve", reason="no", by="bob")
    assert (rejected["status"], rejected["decision_reason"], rejected["decided_on_behalf_of"]) == (
        "rejected", "no", "bob",
    )  # fmt: skip
    assert api.error("POST", f"{URL}/{proposal}/approve") == (409, "proposal_closed", "proposal_id")
    assert [one["id"] for one in api.get(URL, status="pending", starting_after=proposal)["data"]] == [oldest]
    assert api.error("POST", f"{URL}/missing/approve") == (404, "resource_missing", "id")
    assert api.error("GET", URL, "read", starting_after="missing") == (400, "resource_missing", "starting_after")


def test_a_retry_finishes_an_interrupted_cancellation(
    api: ApiClient, metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The approval is stored with the decision; the meter events are cancelled afterwards."""
    proposal, key = propose_each(api, metering)[2]["id"], {"headers": {"Idempotency-Key": "cut-off"}}
    with monkeypatch.context() as patched:
        patched.setattr(BulkCancellationCommands, "_append", Mock(side_effect=RuntimeError("The power is cut.")))
        assert api.send("POST", f"{URL}/{proposal}/approve", "approve", **key).status_code == 500
    assert metering.cancellations.get(proposal).cancelled == 0
    assert request(api, f"{URL}/{proposal}/approve", "approve", **key)["status"] == "approved"
    assert metering.cancellations.get(proposal).cancelled == 2


def test_the_policy(api: ApiClient) -> None:
    """A kind is added at once, and removed by a proposal."""
    assert api.get(POLICY)["required"] == list(KINDS)
    assert api.error("POST", POLICY, required=["rules"])[:2] == (403, "approval_required")
    assert api.post(POLICY, required=list(KINDS), by="ops")["required"] == list(KINDS)
    admin = {"Authorization": f"Bearer {api.keys['admin']}", "Content-Type": "application/json"}
    response = api.runner.run(api.client.post(f"{URL}/policy", headers=admin, json={"required": [], "reason": "why"}))
    assert response.json()["policy"] == {"required": []}


def test_keys_are_managed_without_admin(api: ApiClient, metering: Metering) -> None:
    """A key with the scope `keys` grants and revokes only what it has itself."""
    api.keys["manager"] = metering.access_keys.create(["keys", "read"]).key
    created = request(api, KEYS, "manager", scopes=["read"], customers=["acme"], name="page", by="alice")
    assert metering.access_keys.authenticate(created["key"]).customers == ("acme",)
    assert created["created_by"] == api.author("manager")
    for scopes in (["admin"], ["record"], ["read", "approve"]):
        assert api.error("POST", KEYS, "manager", scopes=scopes) == (403, FORBIDDEN, "scopes")
    listed = api.send("GET", KEYS, "manager", limit=2).json()["data"]
    assert listed[0] == created | {"key": None}
    assert api.send("GET", f"{KEYS}/{created['id']}", "manager").json() == listed[0]
    admin = api.author("admin").rpartition("_")[2]
    assert api.error("POST", f"{KEYS}/{admin}/revoke", "manager") == (403, FORBIDDEN, "id")
    assert request(api, f"{KEYS}/{created['id']}/revoke", "manager", reason="lost")["reason"] == "lost"
    assert api.error("POST", f"{KEYS}/0000000000000000/revoke", "manager") == (404, "resource_missing", "id")
    assert api.error("GET", KEYS, "read") == (403, FORBIDDEN, "")
    api.keys["test"] = metering.access_keys.create(["keys"], livemode=False).key
    assert api.error("GET", KEYS, "test")[1] == "livemode_mismatch"
