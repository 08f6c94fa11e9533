"""Every command has help, in the project's words."""

from itertools import pairwise
from pathlib import Path

import pytest

from .command_line import CommandLine

COMMANDS = [
    "", "demo", "serve", "meter", "meter configure", "meter list", "meter show", "meter rename", "meter deactivate",
    "meter reactivate", "record", "import", "cancel", "total", "totals", "usage", "events", "explain",
    "seal", "prove", "seal-key", "check-proof", "prove-growth", "check-growth",
    "verify", "period", "period close", "period list", "period adjustments", "period reopen", "key",
    "key create", "key list", "key revoke", "rules", "rules change",
    "projection", "projection status", "projection rebuild", "projection diff", "projection promote",
    "projection drop", "projection verify",
]  # fmt: skip
GROUPS = ("", "meter", "period", "key", "rules", "projection")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_help(tmp_path: Path, command: str) -> None:
    """Within 80 columns, no line cut short, and none without words."""
    tallybook = CommandLine(tmp_path)
    tallybook.environment["COLUMNS"] = "80"
    lines = tallybook.lines(*command.split(), "--help")
    assert max(len(line) for line in lines) <= 80
    assert not [line for line in lines[1:] if line.endswith("...")]
    entries = [(line, below) for line, below in pairwise(lines) if line.startswith("  -")]
    assert entries
    assert all("  " in line.strip() or below.startswith(" " * 10) for line, below in entries)


WITHOUT_LEDGER = (*GROUPS, "demo", "serve", "seal-key", "check-proof", "prove-growth", "check-growth")


@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in WITHOUT_LEDGER])
def test_every_command_takes_a_ledger_and_answers_in_json(tmp_path: Path, command: str) -> None:
    """The options are called the same everywhere."""
    shown = CommandLine(tmp_path).run(*command.split(), "--help").stdout
    assert "--ledger URL" in shown
    assert "--json" in shown


@pytest.mark.parametrize("command", GROUPS)
def test_a_group_without_a_command_shows_its_help(tmp_path: Path, command: str) -> None:
    """As wrong usage."""
    result = CommandLine(tmp_path).run(*command.split(), status=2)
    assert "Commands:" in result.output


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    """As installed."""
    assert CommandLine(tmp_path).run("--version").stdout.startswith("tallybook 0.")
