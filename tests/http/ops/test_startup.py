"""Startup and stop of a server."""

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.http.running_server import TALLYBOOK, create_key, serve


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path}/ledger.db"


def start_error(*options: str, **environment: str) -> tuple[int, str]:
    """Return the exit status and the output of a server that does not start."""
    completed = subprocess.run(
        [TALLYBOOK, "serve", *options], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert completed.stdout == ""
    return completed.returncode, completed.stderr


def test_a_new_ledger_is_created_and_the_startup_line_is_complete(url: str, tmp_path: Path) -> None:
    """With the actual port, the location of the ledger, and how to create the first key."""
    with serve(url) as server:
        assert server.startup_line == (
            f"Tallybook listens on http://127.0.0.1:{server.port}, on {tmp_path}/ledger.db. "
            "There are no access keys yet: create one with 'tallybook key create'.\n"
        )
        assert server.get("/livez").json() == {"status": "alive"}
    create_key(url, "read")
    with serve(url) as server:
        assert server.startup_line.endswith("ledger.db.\n")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_on_a_signal(url: str, how: signal.Signals) -> None:
    """With status 0 and an empty log."""
    with serve(url) as server:
        assert server.stop(how) == 0
        assert server.log == []


def test_a_port_in_use_is_a_one_line_error(url: str) -> None:
    """Exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert start_error("--ledger", url, "--port", str(port)) == (
            1, f"tallybook: Cannot listen on 127.0.0.1:{port}: Address already in use.\n",
        )  # fmt: skip


def test_listening_on_other_addresses_warns_about_missing_tls(url: str) -> None:
    """A proxy has to add it."""
    with serve(url, "--host", "0.0.0.0") as server:
        assert "plain HTTP: use a proxy for TLS" in server.startup_line
