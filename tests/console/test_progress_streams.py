"""Progress of a task as server-sent events: any process's task, bounded, ended by shutdown and by a revoked key."""

import json
import signal
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from tallybook.application.interfaces.console.progress_streams import COMMENT_SECONDS, MAX_STREAMS_PER_KEY
from tallybook.application.jobs.running_task import TaskRun

from tallybook import Metering
from tests.http.ops.connection import Connection, get_request
from tests.http.running_server import RunningServer, create_key, serve
from tests.waiting import wait_until

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def metering(tmp_path: Path) -> Iterator[Metering]:
    """A ledger that is open in this process too, whose tasks the server's pages show."""
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}") as opened:
        opened.meters.configure("tokens")
        yield opened


@contextmanager
def running_task(metering: Metering) -> Generator[tuple[str, TaskRun, threading.Event]]:
    """Run a task in this process until its event is set: its id, and how it reports progress."""
    is_done, runs = threading.Event(), list[TaskRun]()

    def work(run: TaskRun) -> None:
        run.start_stage("projecting", "events")
        runs.append(run)
        is_done.wait()

    task = metering.tasks.start("verification", work)
    try:
        wait_until(lambda: bool(runs))
        yield task.id, runs[0], is_done
    finally:
        is_done.set()


@contextmanager
def log_in(server: RunningServer, key: str) -> Generator[httpx2.Client]:
    """Open a client that is logged in to the console."""
    with httpx2.Client(base_url=server.url, headers=SAME_ORIGIN, timeout=30) as client:
        assert client.post("/console/login", data={"key": key}).status_code == 303
        yield client


def messages(response: httpx2.Response) -> Iterator[tuple[str, str]]:
    """Yield the event and the data of each message of a stream."""
    event = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data:"):
            yield event, line.removeprefix("data:").strip()


def test_progress_is_sent_until_the_task_ends(metering: Metering, tmp_path: Path) -> None:
    """A key has a limited number of streams; a client that goes away frees one; each end of a session ends them."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    key, other = create_key(url, "read"), create_key(url, "read")
    with serve(url, "--console") as server, log_in(server, key) as client, running_task(metering) as (task, run, done):
        path = f"/console/tasks/{task}"
        with log_in(server, other) as second, second.stream("GET", path) as ended_by_revocation:
            of_second = messages(ended_by_revocation)
            assert next(of_second)[0] == "progress"
            metering.access_keys.revoke(metering.access_keys.authenticate(other).id)
            assert [event for event, _ in of_second] == ["end"]
        with client.stream("GET", path) as response:
            received = messages(response)
            assert (response.headers["content-type"], response.headers["cache-control"]) == (
                "text/event-stream; charset=utf-8", "no-store",
            )  # fmt: skip
            assert json.loads(next(received)[1]) == {"done": 0, "total": None, "text": "0 events: projecting"}
            run.progress(1_000, 2_000)
            assert json.loads(next(received)[1]) == {
                "done": 1000, "total": 2000, "text": "1,000 of 2,000 events: projecting",
            }  # fmt: skip
            with ExitStack() as stack:
                for _ in range(MAX_STREAMS_PER_KEY - 1):
                    stack.enter_context(client.stream("GET", path))
                assert client.get(path).status_code == 429
            wait_until(lambda: _status(client, path) == 200)
            assert client.get("/console/tasks/unknown").status_code == 404
            assert httpx2.get(f"{server.url}{path}", timeout=30).status_code == 401
            foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
            assert client.get(path, headers=foreign).status_code == 403
            done.set()
            assert list(received) == [("end", "")]


def test_a_browser_that_goes_away_frees_its_streams_at_once(metering: Metering, tmp_path: Path) -> None:
    """Not when something is sent to it the next time, which may take long if its task makes no progress."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with (
        serve(url, "--console") as server,
        log_in(server, create_key(url, "read")) as client,
        running_task(metering) as (task, _, _),
    ):
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
        request = get_request(f"/console/tasks/{task}", f"Cookie: {cookies}", "Sec-Fetch-Site: same-origin")
        request = request.replace("Host: here", f"Host: 127.0.0.1:{server.port}")
        for _ in range(3 * MAX_STREAMS_PER_KEY):
            with Connection(server).send(request) as connection:
                assert connection.read_until(b"event: progress").startswith(b"HTTP/1.1 200")
                connection.socket.settimeout(COMMENT_SECONDS / 2)
                connection.socket.shutdown(socket.SHUT_WR)
                connection.drain()


def test_a_shutdown_ends_open_streams_at_once(metering: Metering, tmp_path: Path) -> None:
    """The server does not wait for them until its drain time is over."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    key, drain_seconds = create_key(url, "read"), 60
    with (
        serve(url, "--console", TALLYBOOK_DRAIN_TIMEOUT_SECONDS=str(drain_seconds)) as server,
        log_in(server, key) as client,
        running_task(metering) as (task, _, _),
        client.stream("GET", f"/console/tasks/{task}") as response,
    ):
        received = messages(response)
        assert next(received)[0] == "progress"
        server.process.send_signal(signal.SIGTERM)
        assert list(received) == [], "a browser connects again, to another process or to the next one"
        assert server.process.wait(30) == 0


def _status(client: httpx2.Client, path: str) -> int:
    with client.stream("GET", path) as response:
        return response.status_code
