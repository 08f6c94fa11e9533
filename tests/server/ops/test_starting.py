"""Starting a server, and ending it."""

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.server.serving import TALLYBOOK, create_key, serve


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a ledger that isn't there yet."""
    return f"sqlite:///{tmp_path}/ledger.db"


def refused(*options: str, **environment: str) -> tuple[int, str]:
    """The exit status and what was said of a server that doesn't start."""
    done = subprocess.run(
        [TALLYBOOK, "serve", *options], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_new_ledger_is_begun_and_the_line_tells_all(url: str, tmp_path: Path) -> None:
    """The real port, the ledger's place, and how to make the first key."""
    with serve(url) as serving:
        assert serving.said == (
            f"Tallybook listens on http://127.0.0.1:{serving.port}, on {tmp_path}/ledger.db. "
            "There are no keys yet: 'tallybook key create' makes one.\n"
        )
        assert serving.get("/livez").json() == {"status": "alive"}
    create_key(url, "read")
    with serve(url) as serving:
        assert serving.said.endswith("ledger.db.\n")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_to(url: str, how: signal.Signals) -> None:
    """With status 0, and nothing in the log."""
    with serve(url) as serving:
        assert serving.stop(how) == 0
        assert serving.log == []


def test_a_taken_port_is_one_sentence(url: str) -> None:
    """Exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("--ledger", url, "--port", str(port)) == (
            1, f"tallybook: Can't listen on 127.0.0.1:{port}: Address already in use.\n",
        )  # fmt: skip


def test_listening_elsewhere_says_that_tls_is_missing(url: str) -> None:
    """A proxy has to add it."""
    with serve(url, "--host", "0.0.0.0") as serving:
        assert "plain HTTP: TLS is the task of a proxy" in serving.said
