"""The applications of docs/guides/web-applications.md, as processes: two workers each, and a projection beside them."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from socket import AF_UNIX, socket
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest

from tests.docs.documents import WEB_APPLICATIONS, Block, blocks, files, section, steps
from tests.postgres import Server

DATABASE = "postgresql://billing@/billing"
PATIENCE_SECONDS = 60
RUN_ON = {"uvicorn", "gunicorn", "run_projection", "projection run"}
"""Commands of the page that run until they are stopped."""


class Application:
    """A folder with the page's files, and the page's commands, run there."""

    def __init__(self, folder: Path, frame: str, ending: ExitStack) -> None:
        self.folder = folder
        self.socket = folder / "http"
        self._blocks = section(WEB_APPLICATIONS, frame)
        self._commands = commands(self._blocks)
        self._ending = ending
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "UVICORN_UDS": str(self.socket),
            "GUNICORN_CMD_ARGS": f"--bind unix:{self.socket}",
            "BILLING_HOST": os.environ["PGHOST"],
            "PYTHONWARNINGS": "error::ResourceWarning",
        }

    def build(self) -> None:
        """Run the commands that end, and write the files."""
        for command in self._commands:
            if not runs_on(command):
                self.run(command)
        for path, text in files(self._blocks).items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            at_its_end = text.splitlines()[0].endswith("at its end")
            file.write_text((file.read_text() if at_its_end else "") + text)

    def run(self, command: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> "list[subprocess.Popen[bytes]]":
        """Start the commands that run on, each as a process once the one before answers; they end with the test."""
        exports = [command for command in self._commands if command.startswith("export ")]
        started: list[subprocess.Popen[bytes]] = []
        for command in filter(runs_on, self._commands):
            with (self.folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    ["bash", "-c", "; ".join([*exports, f"exec {command}"])],
                    cwd=self.folder,
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                )
            self._ending.enter_context(process)
            self._ending.callback(process.terminate)
            started.append(process)
            wait_until(self.answers, self)
        return started

    def client(self) -> httpx.Client:
        """A client of its own, which may reach any worker."""
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://localhost", timeout=PATIENCE_SECONDS
        )

    def post(self, path: str, **body: object) -> httpx.Response:
        """What one request on a new connection is answered."""
        with self.client() as client:
            return client.post(path, json=body)

    def total(self, customer: str, month: str | None = None) -> httpx.Response:
        """The figures of a customer's month, by default this one."""
        asked = {"event_name": "tokens", "customer": customer, "month": month or this_month()}
        with self.client() as client:
            return client.get("/totals", params=asked)

    def answers(self) -> bool:
        """Whether it is there."""
        with socket(AF_UNIX) as trial:
            try:
                trial.connect(str(self.socket))
            except OSError:
                return False
        return self.total("nobody").status_code == 200

    @property
    def log(self) -> str:
        """All that the processes have said."""
        return (self.folder / "log").read_text()


def commands(found: list[Block]) -> list[str]:
    """The commands of some blocks, in order."""
    return [step.command for one in found if one.language == "console" for step in steps(one)]


def runs_on(command: str) -> bool:
    return any(one in command for one in RUN_ON)


def this_month() -> str:
    return f"{datetime.now(ZoneInfo('Europe/Berlin')):%Y-%m}"


def wait_until(is_so: Callable[[], bool], application: Application) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, application.log
        time.sleep(0.05)


def positions() -> tuple[int, int]:
    """Where the ledger is, and where the read models are."""
    with psycopg.connect(DATABASE) as connection:
        row = connection.execute(
            "SELECT (SELECT max(position) FROM tallybook.stored_events),"
            " (SELECT max(notification_id) FROM tallybook_views.tracking)"
        ).fetchone()
    assert row is not None
    return row


@pytest.fixture(params=["FastAPI", "Django"])
def application(request: pytest.FixtureRequest, billing: Server, tmp_path: Path) -> Iterator[Application]:
    """One of the applications, not started."""
    with ExitStack() as ending:
        built = Application(tmp_path, request.param, ending)
        built.build()
        yield built


def test_workers_record_at_once_and_a_projection_keeps_up(application: Application, billing: Server) -> None:
    """Each report counts once, whichever worker it reaches, and however often it is sent."""
    processes = application.start()

    def report(sent: tuple[int, int]) -> tuple[int, str]:
        payload = {"customer": "acme", "tokens": "2"}
        answer = application.post("/usage", event_name="tokens", identifier=f"req-{sent[1]}", payload=payload)
        return answer.status_code, answer.json()["outcome"]

    with ThreadPoolExecutor(8) as pool:
        outcomes = Counter(pool.map(report, product(range(2), range(100))))
    assert outcomes == {(200, "accepted"): 100, (200, "duplicate"): 100}
    wait_until(lambda: positions() == (101, 101), application)  # though nobody has asked for a figure
    assert application.total("acme").json() == {"value": "200", "billable": "200", "count": 100}

    billing.stop_immediately()
    late = {"event_name": "tokens", "identifier": "late", "payload": {"customer": "acme", "tokens": "5"}}
    refused = application.post("/usage", **late)
    assert (refused.status_code, refused.json()) == (503, {"code": "ledger_unavailable"})
    assert refused.headers["Retry-After"] == "5"
    billing.start()
    assert application.post("/usage", **late).json() == {"outcome": "accepted", "position": 102}
    wait_until(lambda: positions() == (102, 102), application)

    for process in processes:
        assert process.poll() is None, application.log
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) in (0, -15), application.log
    assert "was deleted while still open" not in application.log  # as psycopg says of connections


def test_refusals_tell_what_is_wrong(application: Application) -> None:
    """409 for another content under the same identifier, 422 for all else that the sender has to put right."""
    application.start()
    use = {"event_name": "tokens", "identifier": "req-1", "payload": {"customer": "acme", "tokens": "25"}}
    assert application.post("/usage", **use).json() == {"outcome": "accepted", "position": 2}

    def refused(answer: httpx.Response) -> tuple[int, str, str]:
        return answer.status_code, answer.json()["code"], answer.json()["field"]

    other = {**use, "payload": {"customer": "acme", "tokens": "26"}}
    assert refused(application.post("/usage", **other)) == (409, "duplicate_meter_event", "identifier")
    wrong = {**use, "identifier": "req-2", "payload": {"customer": "acme", "tokens": "1e3"}}
    assert refused(application.post("/usage", **wrong)) == (422, "payload_invalid_value", "tokens")
    long_ago = (datetime.now(UTC) - timedelta(days=40)).isoformat()
    old = {**use, "identifier": "req-3", "timestamp": long_ago}
    assert refused(application.post("/usage", **old)) == (422, "timestamp_too_far_in_past", "timestamp")
    nameless = {key: value for key, value in use.items() if key != "identifier"}
    assert application.post("/usage", **nameless).status_code == 422

    assert application.total("acme").json() == {"value": "25", "billable": "25", "count": 1}
    assert application.total("acme", "2026-13").status_code == 422
    cancelling = {"event_name": "tokens", "identifier": "req-1", "reason": "a test", "by": "ops@example.com"}
    first = application.post("/cancellations", **cancelling)
    assert first.status_code == 200
    assert application.post("/cancellations", **cancelling).json() == first.json()
    unknown = {**cancelling, "identifier": "req-9"}
    assert refused(application.post("/cancellations", **unknown))[:2] == (422, "invalid_cancel_configuration")
    assert application.total("acme").json() == {"value": "0", "billable": "0", "count": 0}


ORDERS = """
from django.db import transaction
from usage.ledger import metering
from usage.orders import report

for order, error in ((1, None), (2, ValueError)):
    try:
        with transaction.atomic():
            metering().record("tokens", {"customer": "at once", "tokens": "1"}, identifier=f"at-once-{order}")
            report(order, "afterwards", 1)
            if error:
                raise error
    except ValueError:
        pass
print([one.identifier for one in metering().events("tokens")])
"""


def test_what_is_rolled_back_in_django_is_recorded_all_the_same(billing: Server, tmp_path: Path) -> None:
    """Only what waits for the commit isn't."""
    with ExitStack() as ending:
        django = Application(tmp_path, "Django", ending)
        django.build()
        (tmp_path / "orders.py").write_text(ORDERS)
        printed = django.run("python manage.py shell --no-imports < orders.py")
    assert "['at-once-1', 'order-1', 'at-once-2']" in printed


def test_all_of_the_page_is_run() -> None:
    """All blocks stand under the headings of the two applications, and all Python is in files."""
    of_both = [*section(WEB_APPLICATIONS, "FastAPI"), *section(WEB_APPLICATIONS, "Django")]
    assert of_both == blocks(WEB_APPLICATIONS)
    assert len(files(of_both)) == sum(block.language == "python" for block in of_both)
