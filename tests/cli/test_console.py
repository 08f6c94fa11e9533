"""The command `console`: what it says before it serves."""

import socket
from pathlib import Path

import pytest

from .command_line import CommandLine


@pytest.mark.parametrize(
    ("ledger", "status", "message"),
    [
        ("sqlite:///missing.db", 1, "There is no ledger at"),
        ("sqlite://", 2, "an in-memory ledger cannot be served"),
        ("mysql://host/database", 1, "invalid_ledger_url"),
    ],
)
def test_a_ledger_that_cannot_be_shown_is_reported(tmp_path: Path, ledger: str, status: int, message: str) -> None:
    """The command ends with a message, without a traceback."""
    result = CommandLine(tmp_path).run("console", "--no-browser", "--ledger", ledger, status=status)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_used_port_is_reported(tmp_path: Path) -> None:
    """Another program listens on it."""

    command_line = CommandLine(tmp_path)
    command_line.run("meter", "configure", "tokens")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = command_line.run("console", "--no-browser", "--port", port, status=1)
    assert f"Cannot listen on port {port}" in result.stderr
