"""Health, metrics and logs, as operators see them."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http.running_server import TIMEOUT_SECONDS, RunningServer, create_key, serve
from tests.postgres import Server
from tests.waiting import wait_until

METER = {"display_name": "Tokens", "event_name": "tokens", "default_aggregation[formula]": "sum"}
EVENT = {"event_name": "tokens", "payload[stripe_customer_id]": "cus_secret", "payload[value]": "31415926.5"}
EVENTS = "/v1/billing/meter_events"
OPENAPI = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def server(url: str) -> Iterator[RunningServer]:
    """A server."""
    with serve(url) as running:
        yield running


@pytest.fixture
def key(server: RunningServer, url: str) -> str:
    """A key, and a meter with an accepted and a rejected event."""
    key = create_key(url, "admin")
    with server.client(key) as client:
        client.post("/v1/billing/meters", data=METER).raise_for_status()
        client.post(EVENTS, data={**EVENT, "identifier": "first"}).raise_for_status()
        assert client.post(EVENTS, data={**EVENT, "payload[value]": "no number"}).status_code == 400
        assert client.get("/v1/billing/meters/mtr_none").status_code == 404
    return key


def parse_metrics(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the samples, parsed by the Prometheus client."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metric_labels(**by: str) -> frozenset[tuple[str, str]]:
    """Return the labels of a sample."""
    return frozenset(by.items())


def test_metrics(server: RunningServer, key: str) -> None:
    """Requests, events by outcome, commits, waiting events, and the current lag of the projection."""
    response = server.get("/metrics", key)
    assert response.headers["content-type"].startswith("text/plain")
    samples = parse_metrics(response.text)
    requests = {
        ("create_meter", "POST", "200"): 1, ("create_meter_event", "POST", "200"): 1,
        ("create_meter_event", "POST", "400"): 1, ("retrieve_meter", "GET", "404"): 1,
    }  # fmt: skip
    for (operation, method, status), count in requests.items():
        by = metric_labels(operation=operation, method=method, status=status)
        assert samples["tallybook_requests_total", by] == count
    assert samples["tallybook_request_duration_seconds_count", metric_labels(operation="create_meter_event")] == 2
    assert samples["tallybook_events_total", metric_labels(outcome="accepted")] == 1
    assert samples["tallybook_events_total", metric_labels(outcome="rejected")] == 1
    assert samples["tallybook_commit_events_sum", metric_labels()] == 2
    assert samples["tallybook_commit_duration_seconds_count", metric_labels()] == 2
    assert samples["tallybook_queued_events", metric_labels()] == 0
    assert samples["tallybook_projection_lag", metric_labels()] == (
        samples["tallybook_ledger_head", metric_labels()] - samples["tallybook_projection_position", metric_labels()]
    )
    assert samples["tallybook_ledger_head", metric_labels()] >= 2


@pytest.mark.parametrize(("scope", "status"), [("read", 200), ("record", 403), (None, 401)])
def test_metrics_need_a_read_key(server: RunningServer, url: str, scope: str | None, status: int) -> None:
    """Like any query."""
    key = create_key(url, scope) if scope else "sk_live_none"
    assert server.get("/metrics", key).status_code == status


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_metrics_need_a_live_mode_key(server: RunningServer, url: str, scope: str) -> None:
    """A test mode key shows nothing of live mode, whatever its scope."""
    response = server.get("/metrics", create_key(url, scope, test=True))
    assert (response.status_code, response.json()["error"]["code"]) == (403, "livemode_mismatch")
    assert "tallybook_" not in response.text


def test_the_access_log_contains_no_request_data(server: RunningServer, key: str) -> None:
    """No customer, no value, no query, and only the id of the key."""
    with server.client(key) as client:
        client.get("/v1/billing/meters/mtr_dG9rZW5z/event_summaries", params={"customer": "cus_secret"})
        client.get("/cus_secret", params={"customer": "cus_secret"})
    paths = ["/v1/billing/meters/{id}/event_summaries", ""]
    wait_until(lambda: [line["path"] for line in server.log][-2:] == paths, lambda: server.log_text)
    text = server.log_text
    for secret in ("cus_secret", "31415926.5", key, key.rpartition("_")[2], "dG9rZW5z", "first"):
        assert secret not in text
    recorded = next(line for line in server.log if line.get("operation") == "create_meter_event")
    assert str(recorded["key"]) in key
    assert set(recorded) == {
        "time", "request_id", "method", "path", "status", "milliseconds", "bytes_in", "bytes_out", "client",
        "operation", "key", "events",
    }  # fmt: skip
    assert (recorded["path"], recorded["status"], recorded["events"]) == (EVENTS, 200, 1)


def test_the_access_log_can_be_left_out(url: str) -> None:
    """Errors are still logged."""
    with serve(url, TALLYBOOK_ACCESS_LOG="false") as server:
        server.get("/v1/billing/meters")
        server.stop()
        assert server.log == []


def test_health_of_a_ledger_in_a_file(server: RunningServer, key: str, tmp_path: Path) -> None:
    """Ready with the lag of the projection; unavailable if the file is deleted, while the process stays alive."""
    ready = server.get("/readyz")
    projection = server.get("/v1/billing/projection", key).json()
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "lag": projection["head"] - projection["position"]}
    shutil.move(tmp_path / "ledger.db", tmp_path / "moved.db")
    wait_for_status(server, 503)
    assert server.get("/readyz").json() == {"status": "unavailable"}
    assert server.get("/livez").json() == {"status": "alive"}
    shutil.move(tmp_path / "moved.db", tmp_path / "ledger.db")
    wait_for_status(server, 200)


def test_health_of_a_ledger_on_a_server() -> None:
    """Unavailable while PostgreSQL is down, and recording gets an error that can be retried; ready afterwards."""
    server = Server()
    try:
        url = server.url("served")
        with serve(url) as http_server:
            key = create_key(url, "admin")
            wait_for_status(http_server, 200)
            server.stop_immediately()
            wait_for_status(http_server, 503)
            assert http_server.get("/livez").status_code == 200
            response = http_server.get("/metrics", key)
            assert (response.status_code, response.json()["error"]["type"]) == (503, "api_error")
            assert "tallybook-" not in response.text  # the data directory of the server
            server.start()
            wait_for_status(http_server, 200)
            assert http_server.get("/v1/billing/meters", key).status_code == 200
    finally:
        server.close()


def test_the_openapi_document_is_served_and_up_to_date(server: RunningServer) -> None:
    """docs/openapi.json is the served document. With TALLYBOOK_TEST_RENEW=1 this test writes it and fails once."""
    document = server.get("/openapi.json").json()
    is_current = OPENAPI.exists() and json.loads(OPENAPI.read_text()) == document
    if not is_current and "TALLYBOOK_TEST_RENEW" in os.environ:
        OPENAPI.write_text(json.dumps(document, indent=1) + "\n")
    assert is_current, "docs/openapi.json is outdated: run this test with TALLYBOOK_TEST_RENEW=1, and commit the file"


def wait_for_status(server: RunningServer, status: int) -> None:
    """Wait until /readyz returns a status."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while server.get("/readyz").status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.2)
