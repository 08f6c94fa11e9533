"""Stripe's SDK for Node goes through the whole surface, and finds there what Stripe's own server would tell it."""

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
from tallybook.domain.report import Report

from ..place import HOUR, Place, now, place
from ..proxy import LossyProxy, lossy

HERE = Path(__file__).parent
METERS, HOURS = 250, 1_000
DUPLICATE = "An event already exists with identifier one."
INVALID = {"type": "StripeInvalidRequestError", "rawType": "invalid_request_error", "statusCode": 400,
           "shouldRetry": "false"}  # fmt: skip


@pytest.fixture(scope="module")
def installed(pytestconfig: pytest.Config) -> Path:
    """A directory with the SDK, which stays for the next run."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not on this machine")
    assert pytestconfig.cache is not None
    directory = pytestconfig.cache.mkdir("stripe-node")
    for name in ("package.json", "surface.mjs"):
        shutil.copy(HERE / name, directory / name)
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]["stripe"]
    found = directory / "node_modules" / "stripe" / "package.json"
    if not found.exists() or json.loads(found.read_text())["version"] != wanted:
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm can't install the SDK: {done.stderr[-200:]}")
    return directory


@pytest.fixture(scope="module")
def told(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each step of the script came to."""
    with place(tmp_path_factory.mktemp("node")) as server, lossy(server.url) as proxy, _told_to(proxy) as lose_next:
        _prepare(server)
        surface = {
            "host": "127.0.0.1", "port": _port(server.url), "key": server.admin_key, "recordKey": server.key("record"),
            "lossyPort": _port(proxy.url), "loseNext": lose_next, "now": now(),
        }  # fmt: skip
        done = subprocess.run(
            ["node", "surface.mjs"], cwd=installed, capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": str(Path(shutil.which("node") or "").parent), "SURFACE": json.dumps(surface)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert proxy.lost == 5
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["step"]: line["said"] for line in lines}


def test_creation_to_summaries(told: dict[str, Any]) -> None:
    """Node's nulls are nothing, and its answers have Stripe's fields."""
    meter, v1, v2 = told["meter"], told["v1 event"], told["v2 event"]
    assert (meter["object"], meter["event_time_window"], meter["status"]) == ("billing.meter", None, "active")
    assert meter["customer_mapping"] == {"event_payload_key": "stripe_customer_id", "type": "by_id"}
    assert (told["retrieved"], told["renamed"]) == (True, "Token")
    payload = {"stripe_customer_id": "cus_1", "value": "1.5"}
    assert {**v1, "created": 0, "timestamp": 0} == {
        "object": "billing.meter_event", "created": 0, "event_name": "tokens", "identifier": "one", "livemode": True,
        "payload": payload, "timestamp": 0,
    }  # fmt: skip
    assert (v2["object"], v2["identifier"], v2["timestamp"]) == ("v2.billing.meter_event", "two", v2["created"])
    assert told["without an identifier"] == "string"
    assert told["total"] == [7.5]
    (summary,) = told["summaries"]["data"]
    assert set(summary) == {"id", "object", "aggregated_value", "start_time", "end_time", "livemode", "meter"}
    assert told["summaries"]["url"] == f"/v1/billing/meters/{meter['id']}/event_summaries"


REFUSED: dict[str, dict[str, Any]] = {
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
    "token elsewhere": {"type": "StripeAuthenticationError", "statusCode": 401},
}


@pytest.mark.parametrize("step", REFUSED)
def test_errors_are_of_stripes_kinds(told: dict[str, Any], step: str) -> None:
    """By their type, code and param."""
    assert {name: told[step].get(name) for name in REFUSED[step]} == REFUSED[step]


def test_cancels_and_the_stream(told: dict[str, Any]) -> None:
    """What is cancelled counts no more, what is streamed counts at once."""
    assert (told["cancel v1"]["status"], told["cancel v2"]["status"]) == ("complete", "complete")
    assert told["total after cancels"] == [4]
    assert told["session"] == ["authentication_token", "created", "expires_at", "id", "livemode", "object"]
    assert told["total after stream"] == [104]


def test_what_is_lost_on_its_way_counts_once(told: dict[str, Any]) -> None:
    """Node tries again with the same idempotency key by itself."""
    assert (told["retried v1"], told["retried v2"], told["retried meter"]) == (
        "true",
        "v2.billing.meter_event",
        "other",
    )
    assert told["total after retries"] == [3104]


def test_paging(told: dict[str, Any]) -> None:
    """for await gives each once, newest first, and backwards from the oldest on."""
    oldest_first = [*(f"meter {number}" for number in range(METERS)), "tokens", "other"]
    assert told["paged"] == [*oldest_first[::-1], "paged"]
    assert told["paged backwards"] == oldest_first
    assert told["paged summaries"] == [*reversed(range(HOURS))]
    assert told["status"] == ["inactive", "active"]


def _prepare(server: Place) -> None:
    """A thousand hours of usage, and 250 meters that come after it."""
    first = datetime.fromtimestamp(now() // HOUR * HOUR, UTC) - timedelta(hours=HOURS - 1)
    with Metering.open(server.ledger, policy=AcceptancePolicy(max_age=None)) as metering:
        metering.configure_meter("paged")
        metering.record_many(
            Report("paged", {"stripe_customer_id": "cus_1", "value": str(n)}, None, first + timedelta(hours=n))
            for n in range(HOURS)
        )
        for number in range(METERS):
            metering.configure_meter(f"meter {number}")


@contextmanager
def _told_to(proxy: LossyProxy) -> Generator[str]:
    """Where another program tells the proxy how many answers it loses from now on."""

    class Told(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proxy.losses = int(self.path.strip("/"))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    with ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
