"""Stripe's SDK for Node uses the whole API and gets what Stripe's server would return."""

import json
import shutil
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import AcceptancePolicy, Metering
from tallybook.domain.meter_event_input import MeterEventInput

from ..proxy import LossyProxy, lossy_proxy
from ..server_fixture import HOUR, SdkServer, now, sdk_server

HERE = Path(__file__).parent
METERS, HOURS = 250, 1_000
DUPLICATE = "An event already exists with identifier one."
INVALID = {"type": "StripeInvalidRequestError", "rawType": "invalid_request_error", "statusCode": 400,
           "shouldRetry": "false"}  # fmt: skip


@pytest.fixture(scope="module")
def node_modules(pytestconfig: pytest.Config) -> Path:
    """A directory with the SDK, cached for the next run."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not on this machine")
    assert pytestconfig.cache is not None
    directory = pytestconfig.cache.mkdir("stripe-node")
    for name in ("package.json", "surface.mjs"):
        shutil.copy(HERE / name, directory / name)
    version = json.loads((HERE / "package.json").read_text())["dependencies"]["stripe"]
    package_file = directory / "node_modules" / "stripe" / "package.json"
    if not package_file.exists() or json.loads(package_file.read_text())["version"] != version:
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        completed = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
        if completed.returncode != 0:
            pytest.skip(f"npm can't install the SDK: {completed.stderr[-200:]}")
    return directory


@pytest.fixture(scope="module")
def step_results(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of the steps of the script."""
    with (
        sdk_server(tmp_path_factory.mktemp("node")) as server,
        lossy_proxy(server.url) as proxy,
        _control_server(proxy) as lose_next,
    ):
        _record_usage(server)
        surface = {
            "host": "127.0.0.1", "port": _port(server.url), "key": server.admin_key, "recordKey": server.key("record"),
            "lossyPort": _port(proxy.url), "loseNext": lose_next, "now": now(),
        }  # fmt: skip
        completed = subprocess.run(
            ["node", "surface.mjs"], cwd=node_modules, capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": str(Path(shutil.which("node") or "").parent), "SURFACE": json.dumps(surface)},
        )  # fmt: skip
        assert completed.returncode == 0, completed.stderr
        assert proxy.lost == 5
    lines = [json.loads(line) for line in completed.stdout.splitlines()]
    return {line["step"]: line["said"] for line in lines}


def test_creation_to_summaries(step_results: dict[str, Any]) -> None:
    """The nulls of Node are ignored, and responses have Stripe's fields."""
    meter, v1, v2 = step_results["meter"], step_results["v1 event"], step_results["v2 event"]
    assert (meter["object"], meter["event_time_window"], meter["status"]) == ("billing.meter", None, "active")
    assert meter["customer_mapping"] == {"event_payload_key": "stripe_customer_id", "type": "by_id"}
    assert (step_results["retrieved"], step_results["renamed"]) == (True, "Token")
    payload = {"stripe_customer_id": "cus_1", "value": "1.5"}
    assert {**v1, "created": 0, "timestamp": 0} == {
        "object": "billing.meter_event", "created": 0, "event_name": "tokens", "identifier": "one", "livemode": True,
        "payload": payload, "timestamp": 0,
    }  # fmt: skip
    assert (v2["object"], v2["identifier"], v2["timestamp"]) == ("v2.billing.meter_event", "two", v2["created"])
    assert step_results["without an identifier"] == "string"
    assert step_results["total"] == [7.5]
    (summary,) = step_results["summaries"]["data"]
    assert set(summary) == {"id", "object", "aggregated_value", "start_time", "end_time", "livemode", "meter"}
    assert step_results["summaries"]["url"] == f"/v1/billing/meters/{meter['id']}/event_summaries"


ERRORS: dict[str, dict[str, Any]] = {
    "duplicate v1": INVALID | {"code": None, "param": None, "message": DUPLICATE},
    "duplicate v2": INVALID | {"code": "duplicate_meter_event", "message": DUPLICATE},
    "no meter": INVALID | {"message": 'No active meter found for event name "nobody\'s".'},
    "no meter v2": INVALID | {"code": "no_meter"},
    "missing": INVALID | {"statusCode": 404, "code": "resource_missing", "param": "id"},
    "unknown parameter": INVALID | {"code": "parameter_unknown", "param": "colour"},
    "misaligned": INVALID | {"code": "parameter_invalid", "param": "start_time"},
    "cancel unknown": INVALID | {"code": "invalid_cancel_configuration", "param": "cancel[identifier]"},
    "wrong key": {"type": "StripeAuthenticationError", "statusCode": 401, "shouldRetry": "false"},
    "no scope": {"type": "StripePermissionError", "statusCode": 403, "code": "more_permissions_required"},
    "other parameters": {"type": "StripeIdempotencyError", "rawType": "idempotency_error", "statusCode": 400},
    "key at the stream": {"type": "StripeAuthenticationError", "statusCode": 401},
    "token at another path": {"type": "StripeAuthenticationError", "statusCode": 401},
}


@pytest.mark.parametrize("step", ERRORS)
def test_errors_are_of_stripes_kinds(step_results: dict[str, Any], step: str) -> None:
    """By their type, code and param."""
    assert {name: step_results[step].get(name) for name in ERRORS[step]} == ERRORS[step]


def test_cancels_and_the_stream(step_results: dict[str, Any]) -> None:
    """A cancelled event no longer counts; a streamed event counts immediately."""
    assert (step_results["cancel v1"]["status"], step_results["cancel v2"]["status"]) == ("complete", "complete")
    assert step_results["total after cancels"] == [4]
    assert step_results["session"] == ["authentication_token", "created", "expires_at", "id", "livemode", "object"]
    assert step_results["total after stream"] == [104]


def test_an_event_lost_in_transit_counts_once(step_results: dict[str, Any]) -> None:
    """Node retries with the same idempotency key."""
    assert (step_results["retried v1"], step_results["retried v2"], step_results["retried meter"]) == (
        "true",
        "v2.billing.meter_event",
        "other",
    )
    assert step_results["total after retries"] == [3104]


def test_paging(step_results: dict[str, Any]) -> None:
    """`for await` returns each item once, newest first and from the oldest on."""
    oldest_first = [*(f"meter {number}" for number in range(METERS)), "tokens", "other"]
    assert step_results["paged"] == [*oldest_first[::-1], "paged"]
    assert step_results["paged backwards"] == oldest_first
    assert step_results["paged summaries"] == [*reversed(range(HOURS))]
    assert step_results["status"] == ["inactive", "active"]


def _record_usage(server: SdkServer) -> None:
    """Record usage in a thousand hours, and create 250 meters."""
    first = datetime.fromtimestamp(now() // HOUR * HOUR, UTC) - timedelta(hours=HOURS - 1)
    with Metering.open(server.ledger, policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure("paged")
        metering.record_many(
            MeterEventInput("paged", {"stripe_customer_id": "cus_1", "value": str(n)}, None, first + timedelta(hours=n))
            for n in range(HOURS)
        )
        for number in range(METERS):
            metering.meters.configure(f"meter {number}")


@contextmanager
def _control_server(proxy: LossyProxy) -> Generator[str]:
    """A server by which another program sets how many responses the proxy drops."""

    class ControlHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proxy.losses = int(self.path.strip("/"))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    with ThreadingHTTPServer(("127.0.0.1", 0), ControlHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
