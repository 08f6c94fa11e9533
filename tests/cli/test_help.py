"""Help texts of all commands."""

from itertools import pairwise
from pathlib import Path

import pytest

from .command_line import CommandLine

COMMANDS = [
    "", "demo", "serve", "meter", "meter configure", "meter list", "meter show", "meter rename", "meter deactivate",
    "meter reactivate", "meter history", "record", "import", "cancel", "cancel-many", "cancellation",
    "cancellation list", "cancellation resume", "cancellation revoke", "total", "totals", "summaries", "events",
    "explain", "backup", "archive", "archive export", "archive verify", "archive register", "archive sql",
    "archive totals",
    "checkpoint", "checkpoint create", "checkpoint key", "checkpoint prove", "checkpoint verify-proof",
    "checkpoint prove-consistency", "checkpoint verify-consistency", "verify", "period", "period close",
    "period list", "period adjustments", "period settle", "period reopen", "invoice-lines",
    "key", "key create", "key list", "key revoke", "relay", "outbox", "outbox lag", "outbox rejected",
    "outbox retry", "outbox drop", "outbox schema", "rules",
    "rules change", "projection", "projection status", "projection rebuild", "projection diff", "projection promote",
    "projection drop", "projection run", "projection verify",
]  # fmt: skip
GROUPS = ("", "archive", "meter", "cancellation", "checkpoint", "period", "key", "outbox", "rules", "projection")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_help(tmp_path: Path, command: str) -> None:
    """The help fits 80 columns, no line is cut off, and every entry has a text."""
    tallybook = CommandLine(tmp_path)
    tallybook.environment["COLUMNS"] = "80"
    lines = tallybook.lines(*command.split(), "--help")
    assert max(len(line) for line in lines) <= 80
    assert not [line for line in lines[1:] if line.endswith("...")]
    entries = [(line, below) for line, below in pairwise(lines) if line.startswith("  -")]
    assert entries
    assert all("  " in line.strip() or below.startswith(" " * 10) for line, below in entries)


WITHOUT_LEDGER = (
    *GROUPS, "archive register", "archive totals", "demo", "serve", "checkpoint key", "checkpoint verify-proof",
    "checkpoint prove-consistency", "checkpoint verify-consistency", "outbox schema",
)  # fmt: skip


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in WITHOUT_LEDGER])
def test_every_command_takes_a_ledger_and_prints_json(tmp_path: Path, command: str) -> None:
    """The options have the same names in every command."""
    help_text = CommandLine(tmp_path).run(*command.split(), "--help").stdout
    assert "--ledger URL" in help_text
    assert "--json" in help_text


@pytest.mark.parametrize("command", GROUPS)
def test_a_group_without_a_command_shows_its_help(tmp_path: Path, command: str) -> None:
    """The exit status is that of an invalid command line."""
    result = CommandLine(tmp_path).run(*command.split(), status=2)
    assert "Commands:" in result.output


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    """The version is that of the installed package."""
    assert CommandLine(tmp_path).run("--version").stdout.startswith("tallybook 0.")
