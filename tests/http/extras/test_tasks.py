"""Tasks over HTTP: started, polled, listed and cancelled."""

import pytest
from tallybook.application import Metering

from ...notation import Ledger
from ...waiting import wait_until
from .api_client import ApiClient, Json, unix_time

TASKS = "/v1/billing/tasks"


@pytest.fixture
def closing_key(api: ApiClient, metering: Metering) -> None:
    """Give the client a key that may close periods, and nothing else."""
    api.keys["close"] = metering.access_keys.create(["close"]).key


def ended(api: ApiClient, task: Json) -> Json:
    """Wait until a task has ended, and return it."""
    path = f"{TASKS}/{task['id']}"
    wait_until(lambda: api.get(path)["status"] != "running")
    return api.get(path)


@pytest.mark.usefixtures("closing_key")
def test_tasks(ledger: Ledger, api: ApiClient) -> None:
    """A verification, a rebuild and a billing run; each is the acting key's."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=one
    """)
    verified = ended(api, api.post(TASKS, type="verification"))
    assert (verified["status"], verified["result"]["is_equal"]) == ("succeeded", True)
    assert verified["by"].startswith("sk_live_")
    rebuilt = ended(api, api.post(TASKS, type="rebuild"))
    assert (rebuilt["result"]["generation"], rebuilt["unit"]) == (2, "events")
    meter = api.meter_path("calls").rpartition("/")[2]
    billed = api.post(
        TASKS, type="billing_run", start_time=unix_time("10:00"), end_time=unix_time("11:00"), meters=[meter]
    )
    billed = ended(api, billed)
    assert (billed["status"], billed["error"]["code"]) == ("failed", "period_not_ended")
    assert [task["type"] for task in api.list_all(TASKS, limit=1)] == ["billing_run", "rebuild", "verification"]
    assert [task["type"] for task in api.get(TASKS, ending_before=rebuilt["id"])["data"]] == ["billing_run"]
    assert api.post(f"{TASKS}/{billed['id']}/cancel") == billed
    assert api.error("POST", f"{TASKS}/{rebuilt['id']}/cancel", "close")[:2] == (403, "more_permissions_required")
    assert api.error("POST", f"{TASKS}/{billed['id']}/cancel", "record")[:2] == (403, "more_permissions_required")


@pytest.mark.usefixtures("closing_key")
def test_invalid_requests(api: ApiClient) -> None:
    """Nothing is started."""
    assert api.error("POST", TASKS, "read", type="rebuild")[:2] == (403, "more_permissions_required")
    for scope, kinds in (("close", ("rebuild", "verification")), ("record", ("billing_run",))):
        for kind in kinds:
            assert api.error("POST", TASKS, scope, type=kind)[:2] == (403, "more_permissions_required")
    assert api.error("POST", TASKS, "close", type="billing_run") == (400, "parameter_missing", "start_time")
    assert api.error("POST", TASKS, type="other") == (400, "parameter_invalid", "type")
    assert api.error("POST", TASKS, type="billing_run") == (400, "parameter_missing", "start_time")
    assert api.error("POST", TASKS, type="rebuild", end_time=1) == (400, "parameter_unknown", "end_time")
    assert api.error("GET", f"{TASKS}/none") == (404, "resource_missing", "id")
    assert api.error("POST", f"{TASKS}/none/cancel") == (404, "resource_missing", "id")
    assert api.get(TASKS)["data"] == []
