"""Shutdown: accepted requests get responses, and no process remains."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.http.ops.connection import Connection, post_head
from tests.http.running_server import RunningServer, create_key, serve, wait_until_gone
from tests.postgres import Database
from tests.waiting import wait_until, wait_until_read

METER = {"display_name": "Tokens", "event_name": "tokens", "default_aggregation[formula]": "sum"}
EVENT = {"event_name": "tokens", "payload[stripe_customer_id]": "acme", "payload[value]": "1"}
EVENTS = "/v1/billing/meter_events"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    database: Database = request.getfixturevalue("postgres")
    return database.fresh_url()


def workers_of(server: RunningServer) -> list[int]:
    """Return the worker processes of a server."""
    return [child.pid for child in psutil.Process(server.process.pid).children()]


def total(server: RunningServer, key: str) -> int:
    """Return the total of the last hour."""
    with server.client(key) as client:
        meter = client.get("/v1/billing/meters").json()["data"][0]["id"]
        now = int(time.time()) // 60 * 60
        query = {"customer": "acme", "start_time": now - 3_600, "end_time": now + 60}
        data = client.get(f"/v1/billing/meters/{meter}/event_summaries", params=query).json()["data"]
        return int(data[0]["aggregated_value"])


def record_until_stopped(server: RunningServer, key: str, statuses: list[int], stop: threading.Event) -> None:
    """Record events and collect the status of each response, until the server has stopped."""
    with server.client(key) as client:
        while not stop.is_set():
            try:
                statuses.append(client.post(EVENTS, data=EVENT).status_code)
            except httpx2.TransportError:
                return


def set_up_ledger(server: RunningServer, url: str) -> str:
    """Create a ledger with a meter, and return a key."""
    key = create_key(url, "admin")
    with server.client(key) as client:
        client.post("/v1/billing/meters", data=METER).raise_for_status()
    return key


def test_under_load_all_accepted_requests_are_answered(url: str) -> None:
    """Every event with a response is recorded, no request got an error, and the server exits with 0."""
    workers = 1 if url.startswith("sqlite") else 2
    statuses: list[int] = []
    with serve(url, "--workers", str(workers)) as server:
        key = set_up_ledger(server, url)
        with ThreadPoolExecutor(8) as threads:
            for _ in range(8):
                threads.submit(record_until_stopped, server, key, statuses, threading.Event())
            wait_until(lambda: len(statuses) > 8)
            assert server.stop() == 0
    assert set(statuses) == {200}
    with serve(url) as server:
        recorded = total(server, key)
    assert len(statuses) <= recorded <= len(statuses) + 8


def test_a_half_sent_body_may_still_arrive(url: str) -> None:
    """The accepted request gets its response, then the server stops."""
    with serve(url) as server:
        key = set_up_ledger(server, url)
        body = "event_name=tokens&payload[stripe_customer_id]=acme&payload[value]=1"
        head = post_head(EVENTS, f"Authorization: Bearer {key}", f"Content-Length: {len(body)}",
                    "Content-Type: application/x-www-form-urlencoded")  # fmt: skip
        with Connection(server) as connection, Connection(server) as idle:
            wait_until_read(connection.send(head, body[:10]).socket)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)  # the client is slow
            assert server.process.poll() is None
            assert connection.send(body[10:]).read_response().status == 200
            assert idle.is_closed()
        assert server.process.wait(5) == 0


def test_an_incomplete_body_does_not_block_shutdown(url: str) -> None:
    """Shutdown has a time limit."""
    with serve(url, TALLYBOOK_DRAIN_TIMEOUT_SECONDS="1") as server, Connection(server) as connection:
        wait_until_read(connection.send(post_head(EVENTS, "Content-Length: 10")).socket)
        started_at = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_at < 5


def test_a_killed_server_leaves_no_process(url: str) -> None:
    """With one worker: after SIGKILL the port is free for another server."""
    with serve(url) as server:
        server.stop(signal.SIGKILL)
        with serve(url, "--port", str(server.port)) as restarted:
            assert restarted.get("/livez").status_code == 200


@pytest.fixture
def multi_worker_server(postgres: Database) -> Iterator[tuple[RunningServer, str]]:
    """A server with three workers, and the URL of its ledger."""
    url = postgres.fresh_url()
    with serve(url, "--workers", "3") as server:
        yield server, url


def test_workers_exit_with_their_supervisor(multi_worker_server: tuple[RunningServer, str]) -> None:
    """After SIGKILL of the supervisor no worker listens on the port."""
    server, _ = multi_worker_server
    workers = workers_of(server)
    assert len(workers) == 3
    server.stop(signal.SIGKILL)
    wait_until_gone(workers)


def test_a_worker_that_dies_is_replaced(multi_worker_server: tuple[RunningServer, str]) -> None:
    """Each of them, and their metrics stay counted."""
    server, url = multi_worker_server
    key = set_up_ledger(server, url)
    for worker in workers_of(server):
        psutil.Process(worker).kill()
        wait_until_gone([worker])
        wait_until(lambda worker=worker: len(workers_of(server)) == 3 and worker not in workers_of(server))
    with server.client(key) as client:
        assert client.post(EVENTS, data=EVENT).status_code == 200
        recorded = client.get("/metrics").text
    assert 'tallybook_requests_total{method="POST",operation="create_meter",status="200"} 1.0' in recorded
    assert server.stop() == 0
    assert sum("starting another one" in str(line.get("message")) for line in server.log) == 3


def test_all_workers_respond_and_share_metrics(multi_worker_server: tuple[RunningServer, str]) -> None:
    """Each worker reports all requests."""
    server, url = multi_worker_server
    key = set_up_ledger(server, url)
    for _ in range(40):
        with server.client(key) as client:
            assert client.post(EVENTS, data=EVENT).status_code == 200
    with server.client(key) as client:
        recorded = client.get("/metrics").text
    assert 'tallybook_requests_total{method="POST",operation="create_meter_event",status="200"} 40.0' in recorded
    assert 'tallybook_events_total{outcome="accepted"} 40.0' in recorded
    assert total(server, key) == 40
    assert server.stop() == 0
