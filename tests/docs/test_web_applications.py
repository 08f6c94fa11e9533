"""The applications of docs/guides/web-applications.md, as processes: two workers each, and a projection."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import filterfalse, product
from pathlib import Path
from socket import AF_UNIX, socket
from zoneinfo import ZoneInfo

import httpx2
import psycopg
import pytest

from tests.docs.documents import WEB_APPLICATIONS, Block, blocks, files, section, steps
from tests.postgres import Server
from tests.waiting import wait_until

DATABASE = "postgresql://billing@/billing"
TIMEOUT_SECONDS = 60
RUN_ON = {"uvicorn", "gunicorn", "tallybook_projection", "projection run"}
"""Commands of the page that run until they are stopped."""


class Application:
    """Runs the page's commands in a folder with the page's files."""

    def __init__(self, folder: Path, frame: str, exit_stack: ExitStack) -> None:
        self.folder = folder
        self.socket = folder / "http"
        self._blocks = section(WEB_APPLICATIONS, frame)
        self._commands = commands(self._blocks)
        self._exports = [command for command in self._commands if command.startswith("export ")]
        self._exit_stack = exit_stack
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "UVICORN_UDS": str(self.socket),
            "GUNICORN_CMD_ARGS": f"--bind unix:{self.socket}",
            "BILLING_HOST": os.environ["PGHOST"],
            "PYTHONWARNINGS": "error::ResourceWarning",
        }

    def build(self) -> None:
        """Run the commands that end, and write the files, in the order of the page."""
        for block in self._blocks:
            for command in filterfalse(is_long_running, commands([block])):
                self.run("; ".join([*self._exports, command]))
            for path, text in files([block]).items():
                file = self.folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                at_its_end = text.splitlines()[0].endswith("at its end")
                file.write_text((file.read_text() if at_its_end else "") + text)

    def run(self, command: str) -> str:
        """Run a command and return what it prints."""
        completed = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout

    def start(self) -> "list[subprocess.Popen[bytes]]":
        """Start the long-running commands, each once the previous one responds; they are stopped after the test."""
        started: list[subprocess.Popen[bytes]] = []
        for command in filter(is_long_running, self._commands):
            with (self.folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    ["bash", "-c", "; ".join([*self._exports, f"exec {command}"])],
                    cwd=self.folder,
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                )
            self._exit_stack.enter_context(process)
            self._exit_stack.callback(process.terminate)
            started.append(process)
            wait_until(self.is_ready, lambda: self.log)
        return started

    def client(self) -> httpx2.Client:
        """Return a new client, which may reach any worker."""
        transport = httpx2.HTTPTransport(uds=str(self.socket), verify=False)  # loading certificates takes 20 ms
        return httpx2.Client(transport=transport, base_url="http://localhost", timeout=TIMEOUT_SECONDS)

    def post(self, path: str, **body: object) -> httpx2.Response:
        """Send one request on a new connection."""
        with self.client() as client:
            return client.post(path, json=body)

    def total(self, customer: str, month: str | None = None) -> httpx2.Response:
        """Query the total of a customer's month, by default the current one."""
        query = {"event_name": "tokens", "customer": customer, "month": month or this_month()}
        with self.client() as client:
            return client.get("/totals", params=query)

    def is_ready(self) -> bool:
        """Return whether the application responds."""
        with socket(AF_UNIX) as trial:
            try:
                trial.connect(str(self.socket))
            except OSError:
                return False
        return self.total("unknown").status_code == 200

    @property
    def log(self) -> str:
        """Return the output of all processes."""
        return (self.folder / "log").read_text()


def commands(blocks: list[Block]) -> list[str]:
    """Return the commands of blocks, in order."""
    return [step.command for block in blocks if block.language == "console" for step in steps(block)]


def is_long_running(command: str) -> bool:
    return any(name in command for name in RUN_ON)


def this_month() -> str:
    return f"{datetime.now(ZoneInfo('Europe/Berlin')):%Y-%m}"


def positions() -> tuple[int, int]:
    """Return the positions of the ledger and of the read models."""
    with psycopg.connect(DATABASE) as connection:
        row = connection.execute(
            "SELECT (SELECT max(position) FROM tallybook.stored_events),"
            " (SELECT max(notification_id) FROM tallybook_read_models.tracking)"
        ).fetchone()
    assert row is not None
    return row


@pytest.fixture(params=["FastAPI", "Django"])
def application(request: pytest.FixtureRequest, billing: Server, tmp_path: Path) -> Iterator[Application]:
    """Return one of the applications, not started."""
    with ExitStack() as exit_stack:
        built = Application(tmp_path, request.param, exit_stack)
        built.build()
        yield built


def test_workers_record_concurrently_and_a_projection_keeps_up(application: Application, billing: Server) -> None:
    """Each meter event counts once, whichever worker receives it, and however often it is sent."""
    processes = application.start()

    def send(sent: tuple[int, int]) -> tuple[int, str]:
        payload = {"customer": "acme", "tokens": "2"}
        response = application.post("/usage", event_name="tokens", identifier=f"req-{sent[1]}", payload=payload)
        return response.status_code, response.json()["outcome"]

    with ThreadPoolExecutor(8) as pool:
        outcomes = Counter(pool.map(send, product(range(2), range(100))))
    assert outcomes == {(200, "accepted"): 100, (200, "duplicate"): 100}
    wait_until(lambda: positions() == (101, 101), lambda: application.log)  # without a query
    assert application.total("acme").json() == {"value": "200", "billable": "200", "count": 100}

    billing.stop_immediately()
    late_event = {"event_name": "tokens", "identifier": "late", "payload": {"customer": "acme", "tokens": "5"}}
    response = application.post("/usage", **late_event)
    assert (response.status_code, response.json()) == (503, {"code": "ledger_unavailable"})
    assert response.headers["Retry-After"] == "5"
    billing.start()
    assert application.post("/usage", **late_event).json() == {"outcome": "accepted", "position": 102}
    wait_until(lambda: positions() == (102, 102), lambda: application.log)

    for process in processes:
        assert process.poll() is None, application.log
        process.terminate()
        assert process.wait(TIMEOUT_SECONDS) in (0, -15), application.log
    assert "was deleted while still open" not in application.log  # psycopg's warning about connections


def test_requests_are_answered_as_the_page_says(application: Application) -> None:
    """409 for an identifier with different content, 422 for every other error of the client.

    An order that exists already is rolled back, and so is its usage, which has other content.
    """
    application.start()
    order = {"id": "1", "customer": "beta", "tokens": 7}
    created = application.post("/orders", **order)
    assert (created.status_code, created.json()) == (200, {"created": "1"}), application.log
    assert application.post("/orders", **{**order, "tokens": 8}).status_code == 409
    assert application.post("/orders", id="2", customer="beta", tokens=5).status_code == 200
    expected = {"value": "12", "billable": "12", "count": 2}
    wait_until(lambda: application.total("beta").json() == expected, lambda: application.log)
    with psycopg.connect(DATABASE) as connection:
        assert connection.execute("SELECT * FROM tallybook_outbox").fetchall() == []

    meter_event = {"event_name": "tokens", "identifier": "req-1", "payload": {"customer": "acme", "tokens": "25"}}
    assert application.post("/usage", **meter_event).json() == {"outcome": "accepted", "position": 4}

    def error_of(response: httpx2.Response) -> tuple[int, str, str]:
        return response.status_code, response.json()["code"], response.json()["field"]

    other = {**meter_event, "payload": {"customer": "acme", "tokens": "26"}}
    assert error_of(application.post("/usage", **other)) == (409, "duplicate_meter_event", "identifier")
    invalid_event = {**meter_event, "identifier": "req-2", "payload": {"customer": "acme", "tokens": "1e3"}}
    assert error_of(application.post("/usage", **invalid_event)) == (422, "payload_invalid_value", "tokens")
    long_ago = (datetime.now(UTC) - timedelta(days=40)).isoformat()
    old = {**meter_event, "identifier": "req-3", "timestamp": long_ago}
    assert error_of(application.post("/usage", **old)) == (422, "timestamp_too_far_in_past", "timestamp")
    nameless = {key: value for key, value in meter_event.items() if key != "identifier"}
    assert application.post("/usage", **nameless).status_code == 422

    assert application.total("acme").json() == {"value": "25", "billable": "25", "count": 1}
    assert application.total("acme", "2026-13").status_code == 422
    cancelling = {"event_name": "tokens", "identifier": "req-1", "reason": "a test", "by": "ops@example.com"}
    first = application.post("/cancellations", **cancelling)
    assert first.status_code == 200
    assert application.post("/cancellations", **cancelling).json() == first.json()
    unknown = {**cancelling, "identifier": "req-9"}
    assert error_of(application.post("/cancellations", **unknown))[:2] == (422, "invalid_cancel_configuration")
    assert application.total("acme").json() == {"value": "0", "billable": "0", "count": 0}


RECORDING_AT_ONCE = """
from django.db import transaction
from tallybook.django import metering

try:
    with transaction.atomic():
        metering().record("tokens", {"customer": "acme", "tokens": "1"}, identifier="at-once")
        raise ValueError
except ValueError:
    pass
print([event.identifier for event in metering().events("tokens")])
"""


def test_a_django_rollback_does_not_undo_recording_at_once(billing: Server, tmp_path: Path) -> None:
    """As the page says: only usage in the outbox belongs to the transaction."""
    with ExitStack() as exit_stack:
        django = Application(tmp_path, "Django", exit_stack)
        django.build()
        (tmp_path / "at_once.py").write_text(RECORDING_AT_ONCE)
        printed = django.run("python manage.py shell --no-imports < at_once.py")
    assert "['at-once']" in printed


def test_all_of_the_page_is_run() -> None:
    """All blocks are under the headings of the two applications, and all Python is in files."""
    of_both = [*section(WEB_APPLICATIONS, "FastAPI"), *section(WEB_APPLICATIONS, "Django")]
    assert of_both == blocks(WEB_APPLICATIONS)
    assert len(files(of_both)) == sum(block.language == "python" for block in of_both)
