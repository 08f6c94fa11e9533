"""Runs `tallybook serve` in a separate process."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from tallybook.application import Metering

from .client import Client

TIMEOUT_SECONDS = 30.0

_TALLYBOOK = Path(sys.executable).with_name("tallybook")


class ServerNotReady(Exception):
    """The server exited, or did not accept connections in time."""


class ServerProcess:
    """A server of the ledger at `url`, started on entry and killed on exit. `environment` adds variables."""

    def __init__(self, url: str, port: int | None = None, **environment: str) -> None:
        self.url = url
        self.environment = environment
        self.port = port or free_port()
        self.process: subprocess.Popen[Any] | None = None
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving

    def __enter__(self) -> "ServerProcess":
        arguments = ("serve", "--host", "127.0.0.1", "--port", str(self.port))
        self.process = self._start(arguments, {**os.environ, **self.environment, "TALLYBOOK_LEDGER": self.url})
        self._await_connections(self.process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.log.close()

    def _start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[Any]":
        return subprocess.Popen([_TALLYBOOK, *arguments], env=environment, stdout=self.log, stderr=subprocess.STDOUT)

    def client(self, key: str) -> Client:
        """Return a client of this server with an access key."""
        return Client(self.port, key)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self._send_signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """Ask the server with SIGTERM to shut down gracefully."""
        self._send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until the server exits, and return its exit status."""
        assert self.process is not None
        return self.process.wait(TIMEOUT_SECONDS)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the server and its workers so far."""
        assert self.process is not None
        server = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    def log_tail(self) -> str:
        """Return the end of the log."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2_000:]

    def _send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)

    def _await_connections(self, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + TIMEOUT_SECONDS
        while process.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        process.kill()
        status = process.wait(TIMEOUT_SECONDS)
        raise ServerNotReady(f"the server of {self.url} did not start: exit status {status}, {self.log_tail()}")


def create_key(url: str) -> str:
    """Create an access key with the scope `admin` for the ledger at `url`."""
    with Metering.open(url) as metering:
        return metering.access_keys.create(["admin"]).key


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
