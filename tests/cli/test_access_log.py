"""The access log of the command line: TALLYBOOK_ACCESS_LOG_FILE."""

import json
import stat
from pathlib import Path

import pytest

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger

FILE, CUSTOMERS = "TALLYBOOK_ACCESS_LOG_FILE", "TALLYBOOK_ACCESS_LOG_CUSTOMERS"


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Return a ledger of October 2025."""
    return october_ledger(tmp_path)


def test_commands_append_what_they_read_of_one_customer(tallybook: CommandLine, tmp_path: Path) -> None:
    """One line for each command, with the user of the operating system; none for totals of all customers."""
    file = tmp_path / "access.log"
    tallybook.run("total", "tokens", "acme", *OCTOBER)
    tallybook.environment |= {FILE: str(file), CUSTOMERS: "named"}
    tallybook.run("total", "tokens", "acme", *OCTOBER)
    tallybook.run("explain", "tokens", "zeta", *OCTOBER, "--json")
    tallybook.run("totals", "tokens", *OCTOBER)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["operation"], line["customer"]) for line in lines] == [
        ("total", "acme"),
        ("open_explanation", "zeta"),
    ]
    assert {line["via"] for line in lines} == {"command_line"}
    assert all(line["by"] for line in lines)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    tallybook.environment[CUSTOMERS] = ""
    assert tallybook.run_error("total", "tokens", "acme", *OCTOBER) == ("parameter_invalid", CUSTOMERS)
    del tallybook.environment[CUSTOMERS]
    tallybook.run("total", "tokens", "acme", *OCTOBER)
    assert "customer" not in json.loads(file.read_text().splitlines()[-1])


@pytest.mark.parametrize("path", ["missing/access.log", "/dev/full"])
def test_a_command_prints_nothing_if_it_cannot_log(tallybook: CommandLine, path: str) -> None:
    """Neither if the file can't be opened, nor if the disk is full."""
    tallybook.environment |= {FILE: path}
    result = tallybook.run("total", "tokens", "acme", *OCTOBER, status=1)
    assert result.stdout == ""
    assert result.stderr.startswith(f"tallybook: parameter_invalid: The access log {path!r} can't be written: ")
