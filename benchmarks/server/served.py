"""A real server: `tallybook serve` as a process of its own on a ledger."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

from .client import Client

PATIENCE_SECONDS = 30.0

_TALLYBOOK = Path(sys.executable).with_name("tallybook")


class NotServing(Exception):
    """The server ended, or wasn't ready in time."""


class Served:
    """A server process on `url`, and its port; begun on entering, killed on leaving if it still runs."""

    def __init__(self, url: str, port: int | None = None) -> None:
        self.url = url
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving

    def __enter__(self) -> "Served":
        self.process = subprocess.Popen(
            [_TALLYBOOK, "serve", "--host", "127.0.0.1", "--port", str(self.port)],
            env={**os.environ, "TALLYBOOK_LEDGER": self.url},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self._await_connections(self.process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.log.close()

    def client(self, key: str) -> Client:
        """Who asks this server with a key."""
        return Client(self.port, key)

    def kill(self) -> None:
        """End it with SIGKILL: it does nothing more."""
        self._send(signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """Ask it with SIGTERM to answer what it accepted, and to end."""
        self._send(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit status, once it ended."""
        assert self.process is not None
        return self.process.wait(PATIENCE_SECONDS)

    def cpu_seconds(self) -> float:
        """The processor time that it has used so far, with its workers."""
        assert self.process is not None
        server = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    def said(self) -> str:
        """The end of what it logged."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2_000:]

    def _send(self, number: signal.Signals) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)

    def _await_connections(self, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        process.kill()
        status = process.wait(PATIENCE_SECONDS)
        raise NotServing(f"{self.url} isn't served: exit status {status}, {self.said()}")


def created_key(url: str) -> str:
    """A new key to the ledger at `url`, which may do everything."""
    command = [_TALLYBOOK, "key", "create", "--scope", "admin", "--json", "--ledger", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    if done.returncode:
        raise NotServing(f"no key could be created: {done.stderr}")
    return json.loads(done.stdout)["key"]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
