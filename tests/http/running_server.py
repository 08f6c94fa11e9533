"""A server process for tests, and access keys for it."""

import json
import os
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory

import httpx2

from tallybook import Metering
from tests.preloaded.program import Program

TIMEOUT_SECONDS = 30
TALLYBOOK = str(Path(sys.executable).with_name("tallybook"))
STARTUP_PREFIX = "Tallybook listens on "


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server with its URL, process and log."""

    url: str
    process: "Popen[str]"
    startup_line: str
    log_file: Path

    @property
    def port(self) -> int:
        """Return the port of the server."""
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> list[dict[str, object]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.log_text.splitlines()]

    @property
    def log_text(self) -> str:
        """Return what is in its log by now; lines of the access log are written a moment after the response."""
        return self.log_file.read_text()

    def client(self, key: str = "") -> httpx2.Client:
        """Return a client with a key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_SECONDS, verify=False)

    def get(self, path: str, key: str = "") -> httpx2.Response:
        """Return the response to a GET request."""
        with self.client(key) as client:
            return client.get(path)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Stop the server and return its exit status."""
        self.process.send_signal(how)
        return self.process.wait(TIMEOUT_SECONDS)


@contextmanager
def serve(ledger_url: str, *options: str, **environment: str) -> Generator[RunningServer]:
    """Start a server of a ledger on a free local port, and stop it at the end.

    `options` are command line options, `environment` contains settings.
    """
    with TemporaryDirectory(prefix="tallybook-") as folder:
        log = Path(folder, "log")
        with log.open("w") as stderr:
            process = Program(
                "tallybook", "serve", "--ledger", ledger_url, "--port", "0", *options,
                stdout=PIPE,
                stderr=stderr,
                environment={**os.environ, **environment},
                new_session=True,  # it must not receive signals for the group of the tests
            )  # fmt: skip
        try:
            assert process.stdout is not None
            startup_line = process.stdout.readline()
            assert startup_line.startswith(STARTUP_PREFIX), f"{startup_line}{log.read_text()}"
            yield RunningServer(startup_line.removeprefix(STARTUP_PREFIX).partition(",")[0], process, startup_line, log)
        finally:
            _kill(process)


def create_key(ledger_url: str, *scopes: str, test: bool = False) -> str:
    """Create a new access key of a ledger."""
    with Metering.open(ledger_url) as metering:
        return metering.access_keys.create(scopes, livemode=not test).key


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of these processes exists."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while alive := [pid for pid in pids if _is_alive(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):  # the second one if it ends while the file is read
        return False
    return state != "Z"


def _kill(process: "Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(TIMEOUT_SECONDS)
        except TimeoutExpired:
            process.kill()
            process.wait(TIMEOUT_SECONDS)
    assert process.stdout is not None
    process.stdout.close()
