"""A real server process for the tests, and keys to it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory

import httpx

PATIENCE_SECONDS = 30
MOMENT_SECONDS = 0.3
TALLYBOOK = str(Path(sys.executable).with_name("tallybook"))
LISTENS = "Tallybook listens on "


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server: where it is, its process, and what it has said on stderr until now."""

    url: str
    process: "Popen[str]"
    said: str
    log_file: Path

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> list[dict[str, object]]:
        """The lines of its log."""
        return [json.loads(line) for line in self.log_text.splitlines()]

    @property
    def log_text(self) -> str:
        """Its log, with what is to be written in a moment."""
        if self.process.poll() is None:
            time.sleep(MOMENT_SECONDS)
        return self.log_file.read_text()

    def client(self, key: str = "") -> httpx.Client:
        """A client with a key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS)

    def get(self, path: str, key: str = "") -> httpx.Response:
        """What is answered to one GET."""
        with self.client(key) as client:
            return client.get(path)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Tell the server to end; give its exit status."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def serve(ledger_url: str, *options: str, **environment: str) -> Generator[Serving]:
    """A server of a ledger, on a free port of this machine; it is stopped at the end, if it still runs.

    `options` are the command's, `environment` has the variables for its settings.
    """
    with TemporaryDirectory(prefix="tallybook-") as folder:
        log = Path(folder, "log")
        with log.open("w") as stderr:
            process = Popen(
                [TALLYBOOK, "serve", "--ledger", ledger_url, "--port", "0", *options],
                stdout=PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **environment},
                start_new_session=True,  # signals to the group of the tests aren't for it
            )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(LISTENS), f"{said}{log.read_text()}"
            yield Serving(said.removeprefix(LISTENS).partition(",")[0], process, said, log)
        finally:
            _end(process)


def create_key(ledger_url: str, *scopes: str, test: bool = False) -> str:
    """A new key to a ledger."""
    options = [option for scope in scopes for option in ("--scope", scope)]
    created = subprocess.run(
        [TALLYBOOK, "key", "create", "--ledger", ledger_url, "--json", *options, *(["--test"] if test else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert created.returncode == 0, created.stderr
    key: str = json.loads(created.stdout)["key"]
    return key


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of these processes is there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while alive := [pid for pid in pids if _is_alive(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _end(process: "Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_SECONDS)
    assert process.stdout is not None
    process.stdout.close()
