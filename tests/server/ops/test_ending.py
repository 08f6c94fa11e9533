"""The end of a server: what was accepted is answered, and nothing of it is left."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.postgres import Database
from tests.server.ops.connection import Connection, post
from tests.server.serving import Serving, create_key, serve, wait_until_gone

METER = {"display_name": "Tokens", "event_name": "tokens", "default_aggregation[formula]": "sum"}
EVENT = {"event_name": "tokens", "payload[stripe_customer_id]": "acme", "payload[value]": "1"}
EVENTS = "/v1/billing/meter_events"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger that isn't there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    database: Database = request.getfixturevalue("postgres")
    return database.fresh_url()


def workers_of(serving: Serving) -> list[int]:
    """The processes of a server's workers."""
    return [child.pid for child in psutil.Process(serving.process.pid).children()]


def total(serving: Serving, key: str) -> int:
    """What was used in all of the last hour."""
    with serving.client(key) as client:
        meter = client.get("/v1/billing/meters").json()["data"][0]["id"]
        now = int(time.time()) // 60 * 60
        asked = {"customer": "acme", "start_time": now - 3_600, "end_time": now + 60}
        data = client.get(f"/v1/billing/meters/{meter}/event_summaries", params=asked).json()["data"]
        return int(data[0]["aggregated_value"])


def reporting(serving: Serving, key: str, answered: list[int], until: threading.Event) -> None:
    """Report one use after another, and note the status of each answer, until the server is gone."""
    with serving.client(key) as client:
        while not until.is_set():
            try:
                answered.append(client.post(EVENTS, data=EVENT).status_code)
            except httpx.TransportError:
                return


def begun(serving: Serving, url: str) -> str:
    """A key to a ledger in which a meter has been configured."""
    key = create_key(url, "admin")
    with serving.client(key) as client:
        client.post("/v1/billing/meters", data=METER).raise_for_status()
    return key


def test_under_load_all_that_was_accepted_is_answered(url: str) -> None:
    """Every event whose report was answered is there, and no report got an error; the server ends with 0."""
    workers = 1 if url.startswith("sqlite") else 2
    answered: list[int] = []
    with serve(url, "--workers", str(workers)) as serving:
        key = begun(serving, url)
        with ThreadPoolExecutor(8) as threads:
            for _ in range(8):
                threads.submit(reporting, serving, key, answered, threading.Event())
            deadline = time.monotonic() + 30
            while len(answered) <= 8:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert serving.stop() == 0
    assert set(answered) == {200}
    with serve(url) as serving:
        counted = total(serving, key)
    assert len(answered) <= counted <= len(answered) + 8


def test_a_body_that_is_half_sent_may_still_come(url: str) -> None:
    """The request was accepted: it is answered, and then the server ends."""
    with serve(url) as serving:
        key = begun(serving, url)
        body = "event_name=tokens&payload[stripe_customer_id]=acme&payload[value]=1"
        head = post(EVENTS, f"Authorization: Bearer {key}", f"Content-Length: {len(body)}",
                    "Content-Type: application/x-www-form-urlencoded")  # fmt: skip
        with Connection(serving) as connection, Connection(serving) as idle:
            connection.send(head, body[:10])
            time.sleep(0.3)
            serving.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert serving.process.poll() is None
            assert connection.send(body[10:]).answer().status == 200
            assert idle.is_closed()
        assert serving.process.wait(5) == 0


def test_a_body_that_never_comes_keeps_nobody_up(url: str) -> None:
    """The end is bounded."""
    with serve(url, TALLYBOOK_DRAIN_SECONDS="1") as serving, Connection(serving) as connection:
        connection.send(post(EVENTS, "Content-Length: 10"))
        time.sleep(0.3)
        began = time.monotonic()
        assert serving.stop() == 0
        assert time.monotonic() - began < 5


def test_killed_it_leaves_nothing(url: str) -> None:
    """One worker is the process itself: after SIGKILL its port is free, and another server takes it."""
    with serve(url) as serving:
        serving.stop(signal.SIGKILL)
        with serve(url, "--port", str(serving.port)) as again:
            assert again.get("/livez").status_code == 200


@pytest.fixture
def several(postgres: Database) -> Iterator[tuple[Serving, str]]:
    """A server with three workers, and its ledger's URL."""
    url = postgres.fresh_url()
    with serve(url, "--workers", "3") as serving:
        yield serving, url


def test_workers_end_with_their_supervisor(several: tuple[Serving, str]) -> None:
    """Killed as it may be, no worker is left on the port."""
    serving, _ = several
    workers = workers_of(serving)
    assert len(workers) == 3
    serving.stop(signal.SIGKILL)
    wait_until_gone(workers)


def test_a_worker_that_dies_is_replaced(several: tuple[Serving, str]) -> None:
    """Each of them, and what they counted stays counted."""
    serving, url = several
    key = begun(serving, url)
    for worker in workers_of(serving):
        psutil.Process(worker).kill()
        wait_until_gone([worker])
        deadline = time.monotonic() + 30
        while len(workers_of(serving)) < 3 or worker in workers_of(serving):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with serving.client(key) as client:
        assert client.post(EVENTS, data=EVENT).status_code == 200
        counted = client.get("/metrics").text
    assert 'tallybook_requests_total{method="POST",operation="create_meter",status="200"} 1.0' in counted
    assert serving.stop() == 0
    assert sum("another takes its place" in str(line.get("message")) for line in serving.log) == 3


def test_all_workers_answer_and_count_together(several: tuple[Serving, str]) -> None:
    """Whoever is asked tells of all requests."""
    serving, url = several
    key = begun(serving, url)
    for _ in range(40):
        with serving.client(key) as client:
            assert client.post(EVENTS, data=EVENT).status_code == 200
    with serving.client(key) as client:
        counted = client.get("/metrics").text
    assert 'tallybook_requests_total{method="POST",operation="create_meter_event",status="200"} 40.0' in counted
    assert 'tallybook_events_total{outcome="accepted"} 40.0' in counted
    assert total(serving, key) == 40
    assert serving.stop() == 0
