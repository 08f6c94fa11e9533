"""A server takes usage from object stores and topics by itself: listed, measured, paused, and ended with the server.

TALLYBOOK_TEST_KILL_MOMENTS sets how often the server is killed on each store, which is once by default.
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering

from tests.http.running_server import RunningServer, create_key, serve
from tests.object_import.usage_objects import csv_of, put
from tests.postgres import Database
from tests.topics.broker import Broker, running_broker
from tests.waiting import wait_until

from .test_observability import metric_labels, parse_metrics

TOPIC = "usage"
KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "1"))
COUNT = 6_000
MAX_SECONDS = 1.5
EVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
JOBS = "/v1/billing/jobs"


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker with a topic."""
    with running_broker() as running:
        running.create(TOPIC)
        yield running


def event(identifier: str, tokens: object = 1) -> bytes:
    payload = {"customer": "acme", "tokens": tokens}
    return json.dumps({"identifier": identifier, "event_name": "tokens", "payload": payload}).encode()


def rows(*identifiers: str, value: object = 1) -> list[tuple[object, ...]]:
    now = datetime.now(UTC).isoformat()
    return [(identifier, now, "acme", value) for identifier in identifiers]


def sources(folder: Path, broker: Broker) -> dict[str, str]:
    """Return the settings of an import of the objects in a folder, and of a consumer."""
    return {
        "TALLYBOOK_IMPORTS__GATEWAY_1__URL": f"file://{folder}",
        "TALLYBOOK_IMPORTS__GATEWAY_1__INTERVAL_SECONDS": "1",
        "TALLYBOOK_IMPORTS__GATEWAY_1__EVENT_NAME": "tokens",
        "TALLYBOOK_IMPORTS__GATEWAY_1__CUSTOMER_COLUMN": "who",
        "TALLYBOOK_IMPORTS__GATEWAY_1__PAYLOAD_COLUMNS": "n=tokens",
        "TALLYBOOK_BROKERS": broker.address,
        "TALLYBOOK_CONSUMERS__USAGE__TOPIC": TOPIC,
        "TALLYBOOK_WEBHOOKS__POLL_INTERVAL_SECONDS": "0.1",
    }


def put_rows(folder: Path, name: str, content: list[tuple[object, ...]]) -> None:
    put(folder, name, csv_of(content, ("identifier", "timestamp", "who", "n")))


def job(server: RunningServer, key: str, name: str) -> dict[str, Any]:
    """Return a job of a server; one without a status if it has none of that name yet."""
    response = server.get(f"{JOBS}/{name}", key)
    return response.json() if response.status_code == 200 else {"status": None, "runs": 0, "result": None}


def counted(url: str) -> int:
    """Return how many meter events are counted."""
    with Metering.open(url) as metering:
        return metering.total(
            "tokens", "acme", datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        ).count


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger with a meter on each store."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/usage.db"
    else:
        postgres: Database = request.getfixturevalue("postgres")
        url = postgres.fresh_url()
    with Metering.open(url) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    return url


def test_a_server_takes_usage_by_itself(url: str, broker: Broker, tmp_path: Path) -> None:
    """From new objects and messages; a paused job takes none until it is resumed. It ends at SIGTERM."""
    folder, topic = tmp_path / "incoming", f"{TOPIC}-{url.partition(':')[0]}"
    broker.create(topic)
    put_rows(folder, "a.csv", [*rows("a1", "a2"), *rows("a3", value="many")])
    broker.publish(topic, [event("m1"), event("m2", "many")])
    key = create_key(url, "admin")
    with serve(url, **{**sources(folder, broker), "TALLYBOOK_CONSUMERS__USAGE__TOPIC": topic}) as server:
        wait_until(lambda: counted(url) == 3, lambda: server.log_text)
        wait_until(lambda: job(server, key, "import-gateway-1")["runs"] > 1)
        wait_until(lambda: job(server, key, "import-gateway-1")["status"] == "waiting")
        assert job(server, key, "import-gateway-1")["result"] == {
            "objects": 0, "rows": 0, "accepted": 0, "incomplete": 1,
        }  # fmt: skip
        assert "a.csv: 1 of 3 rows were not recorded; line 4: payload_invalid_value" in server.log_text
        assert job(server, key, "consumer-usage")["status"] == "running"
        wait_until(lambda: server.get("/readyz").json()["imports"]["status"] == "ready")
        assert server.get("/readyz").json()["consumers"] == {"status": "ready", "lag": 0}

        for name in ("import-gateway-1", "consumer-usage"):
            with server.client(key) as client:
                client.post(f"{JOBS}/{name}/pause").raise_for_status()
            wait_until(lambda name=name: job(server, key, name)["status"] == "paused")
        put_rows(folder, "b.csv", rows("b1"))
        broker.publish(topic, [event("m3")])
        wait_until(lambda: server.get("/readyz").json()["consumers"]["status"] == "overdue")
        samples = parse_metrics(server.get("/metrics", key).text)
        partition = {"topic": topic, "group": "tallybook", "partition": "0"}
        assert samples["tallybook_topic_messages_total", metric_labels(**partition, outcome="rejected")] == 1
        assert samples["tallybook_topic_lag", metric_labels(**partition)] == 0
        assert samples["tallybook_topic_lag_age_seconds", metric_labels(**partition)] < 60
        assert samples["tallybook_object_import_age_seconds", metric_labels()] < 60
        assert counted(url) == 3
        for name in ("import-gateway-1", "consumer-usage"):
            with server.client(key) as client:
                client.post(f"{JOBS}/{name}/resume").raise_for_status()
        wait_until(lambda: counted(url) == 5)
        assert server.stop(signal.SIGTERM) == 0
        assert "abandoned" not in server.log_text


def test_a_killed_server_goes_on(url: str, broker: Broker, tmp_path: Path) -> None:
    """New objects and messages arrive all the time. None is missing or double, and each object has one report."""
    rng = random.Random(0)
    folder, topic = tmp_path / "incoming", f"killed-{url.partition(':')[0]}"
    broker.create(topic)
    settings = {**sources(folder, broker), "TALLYBOOK_CONSUMERS__USAGE__TOPIC": topic}
    key = create_key(url, "admin")
    for number in range(KILL_COUNT):
        put_rows(folder, f"{number}.csv", rows(*(f"o{number}-{row}" for row in range(COUNT))))
        broker.publish(topic, (event(f"m{number}-{index}") for index in range(COUNT)))
        with serve(url, **settings) as server:
            wait_until(lambda server=server: is_taking(server, key))
            time.sleep(rng.random() * MAX_SECONDS)  # the kill comes at any moment
            server.stop(signal.SIGKILL)
    expected = 2 * KILL_COUNT * COUNT
    with serve(url, **settings) as server, Metering.open(url) as metering:
        wait_until(lambda: metering.total("tokens", "acme", *EVER).count >= expected, lambda: server.log_text)
        wait_until(lambda: server.get("/readyz").json()["consumers"] == {"status": "ready", "lag": 0})
        wait_until(lambda: [run.recorded for run in metering.imports.list()] == [COUNT] * KILL_COUNT)
        total = metering.total("tokens", "acme", *EVER)
        assert (total.count, total.sum) == (expected, expected)
        assert server.stop() == 0


def is_taking(server: RunningServer, key: str) -> bool:
    """Return whether the server has started both jobs."""
    names = {job["id"] for job in server.get("/v1/billing/jobs", key).json()["data"] if job["runs"]}
    return {"import-gateway-1", "consumer-usage"} <= names
