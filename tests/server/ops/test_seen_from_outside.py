"""Health, measures and the log: what those see who look after a server."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.postgres import Server
from tests.server.serving import PATIENCE_SECONDS, Serving, create_key, serve

METER = {"display_name": "Tokens", "event_name": "tokens", "default_aggregation[formula]": "sum"}
EVENT = {"event_name": "tokens", "payload[stripe_customer_id]": "cus_secret", "payload[value]": "31415926.5"}
EVENTS = "/v1/billing/meter_events"
OPENAPI = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a ledger that isn't there yet."""
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def serving(url: str) -> Iterator[Serving]:
    """A server."""
    with serve(url) as serving:
        yield serving


@pytest.fixture
def key(serving: Serving, url: str) -> str:
    """A key, and a meter with one event and one that is refused."""
    key = create_key(url, "admin")
    with serving.client(key) as client:
        client.post("/v1/billing/meters", data=METER).raise_for_status()
        client.post(EVENTS, data={**EVENT, "identifier": "first"}).raise_for_status()
        assert client.post(EVENTS, data={**EVENT, "payload[value]": "no number"}).status_code == 400
        assert client.get("/v1/billing/meters/mtr_none").status_code == 404
    return key


def measured(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples, as Prometheus's own parser reads them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**by: str) -> frozenset[tuple[str, str]]:
    """The labels of a sample."""
    return frozenset(by.items())


def test_measures(serving: Serving, key: str) -> None:
    """Requests, events by outcome, commits, what waits, and the projection's lag at this moment."""
    answer = serving.get("/metrics", key)
    assert answer.headers["content-type"].startswith("text/plain")
    found = measured(answer.text)
    requests = {
        ("create_meter", "POST", "200"): 1, ("create_meter_event", "POST", "200"): 1,
        ("create_meter_event", "POST", "400"): 1, ("retrieve_meter", "GET", "404"): 1,
    }  # fmt: skip
    for (operation, method, status), count in requests.items():
        by = labels(operation=operation, method=method, status=status)
        assert found["tallybook_requests_total", by] == count
    assert found["tallybook_request_seconds_count", labels(operation="create_meter_event")] == 2
    assert found["tallybook_events_total", labels(outcome="accepted")] == 1
    assert found["tallybook_events_total", labels(outcome="rejected")] == 1
    assert found["tallybook_commit_events_sum", labels()] == 2
    assert found["tallybook_commit_seconds_count", labels()] == 2
    assert found["tallybook_events_waiting", labels()] == 0
    assert found["tallybook_projection_lag", labels()] == (
        found["tallybook_ledger_head", labels()] - found["tallybook_projection_position", labels()]
    )
    assert found["tallybook_ledger_head", labels()] >= 2


@pytest.mark.parametrize(("scope", "status"), [("read", 200), ("record", 403), (None, 401)])
def test_measures_need_a_key_that_may_read(serving: Serving, url: str, scope: str | None, status: int) -> None:
    """As any question does."""
    key = create_key(url, scope) if scope else "sk_live_none"
    assert serving.get("/metrics", key).status_code == status


def test_a_line_of_the_log_tells_nothing_of_what_was_said(serving: Serving, key: str) -> None:
    """No customer, no value, no query, and of the key its id."""
    with serving.client(key) as client:
        client.get("/v1/billing/meters/mtr_dG9rZW5z/event_summaries", params={"customer": "cus_secret"})
        client.get("/cus_secret", params={"customer": "cus_secret"})
    text = serving.log_text
    for secret in ("cus_secret", "31415926.5", key, key.rpartition("_")[2], "dG9rZW5z", "first"):
        assert secret not in text
    recorded = next(line for line in serving.log if line.get("operation") == "create_meter_event")
    assert str(recorded["key"]) in key
    assert set(recorded) == {
        "time", "request_id", "method", "path", "status", "milliseconds", "bytes_in", "bytes_out", "client",
        "operation", "key", "events",
    }  # fmt: skip
    assert (recorded["path"], recorded["status"], recorded["events"]) == (EVENTS, 200, 1)
    paths = [line["path"] for line in serving.log]
    assert paths[-2:] == ["/v1/billing/meters/{id}/event_summaries", ""]


def test_the_access_log_can_be_left_out(url: str) -> None:
    """Errors are logged still."""
    with serve(url, TALLYBOOK_ACCESS_LOG="false") as serving:
        serving.get("/v1/billing/meters")
        assert serving.log == []


def test_health_of_a_ledger_in_a_file(serving: Serving, key: str, tmp_path: Path) -> None:
    """Ready with the projection's lag; not when the file is gone; the process lives on, and tells no more than that."""
    ready = serving.get("/readyz")
    projection = serving.get("/v1/billing/projection", key).json()
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "lag": projection["head"] - projection["position"]}
    shutil.move(tmp_path / "ledger.db", tmp_path / "elsewhere.db")
    wait_for_status(serving, 503)
    assert serving.get("/readyz").json() == {"status": "unavailable"}
    assert serving.get("/livez").json() == {"status": "alive"}
    shutil.move(tmp_path / "elsewhere.db", tmp_path / "ledger.db")
    wait_for_status(serving, 200)


def test_health_of_a_ledger_on_a_server() -> None:
    """Not ready while PostgreSQL is down, ready when it is back; what is recorded meanwhile is refused for now."""
    server = Server()
    try:
        url = server.url("served")
        with serve(url) as serving:
            key = create_key(url, "admin")
            wait_for_status(serving, 200)
            server.stop_immediately()
            wait_for_status(serving, 503)
            assert serving.get("/livez").status_code == 200
            refused = serving.get("/metrics", key)
            assert (refused.status_code, refused.json()["error"]["type"]) == (503, "api_error")
            assert "tallybook-" not in refused.text  # the folder that the server lies in
            server.start()
            wait_for_status(serving, 200)
            assert serving.get("/v1/billing/meters", key).status_code == 200
    finally:
        server.close()


def test_the_documented_interface_is_served_and_kept(serving: Serving) -> None:
    """docs/openapi.json is what a server tells. TALLYBOOK_RENEW=1 has this test write it anew, and fail once."""
    told = serving.get("/openapi.json").json()
    is_kept = OPENAPI.exists() and json.loads(OPENAPI.read_text()) == told
    if not is_kept and "TALLYBOOK_RENEW" in os.environ:
        OPENAPI.write_text(json.dumps(told, indent=1) + "\n")
    assert is_kept, "docs/openapi.json isn't what is served: run this test with TALLYBOOK_RENEW=1, and commit it"


def wait_for_status(serving: Serving, status: int) -> None:
    """Wait until the server is ready, or isn't."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while serving.get("/readyz").status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.2)
