"""The demo: its output is correct and fits a screen, and its ledger can be explored afterwards."""

import shlex
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from tallybook.application.demo_data import CUSTOMERS, EVENT_COUNT, DemoEvent, generate_month
from tallybook.application.interfaces.cli import demo_story

from ..postgres import Database
from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return CommandLine(tmp_path)


def short_month(start: datetime) -> list[DemoEvent]:
    return list(islice(generate_month(start), 2_000))


def test_the_demo_fits_a_screen_and_its_last_commands_work(
    tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output has at most 50 lines of 80 columns, and each suggested command runs as printed."""
    tallybook.environment["COLUMNS"] = "80"
    lines = tallybook.lines("demo")
    assert 35 <= len(lines) <= 50
    assert max(len(line) for line in lines) <= 80
    assert "   50,000 accepted in " in "\n".join(lines)
    assert "   1,000 duplicates; nothing is counted twice." in lines
    assert lines[-8].endswith("all 600 totals are the same.")
    export, *commands = (shlex.split(line) for line in lines[-5:])
    assert export[0] == "export"
    del tallybook.environment["TALLYBOOK_LEDGER"]
    monkeypatch.setenv(*export[1].split("=", 1))
    for program, *arguments in commands:
        assert program == "tallybook"
        assert tallybook.lines(*arguments)


def test_a_demo_creates_its_own_ledger(tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo uses the next free name in the folder, ignores the environment, and rejects an existing ledger."""
    monkeypatch.setattr(demo_story, "generate_month", short_month)
    tallybook.write("tallybook-demo.db", "mine")
    assert tallybook.lines("demo")[0].endswith("sqlite:///tallybook-demo-2.db")
    assert tallybook.lines("demo", "--ledger", "sqlite:///other.db")[0].endswith("sqlite:///other.db")
    for url in ("sqlite:///tallybook-demo.db", "sqlite:///other.db", "sqlite://", "mysql://x"):
        stderr = tallybook.run("demo", "--ledger", url, status=1).stderr
        assert stderr.startswith("tallybook: invalid_ledger_url: ")
    assert Path("tallybook-demo.db").read_text() == "mine"
    assert not Path("usage.db").exists()


def test_a_demo_shows_no_password(tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch, postgres: Database) -> None:
    """This applies to a password in the user part and in a parameter of a URL."""
    monkeypatch.setattr(demo_story, "generate_month", short_month)
    url = postgres.fresh_url()
    result = tallybook.run("demo", "--ledger", f"{url}&password=sesame")
    assert "sesame" not in result.output
    assert result.output.count("schema=") == 2


def test_a_replay_with_different_totals_is_reported(tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a replay returns other totals, the demo reports it and ends with status 1."""
    monkeypatch.setattr(demo_story, "generate_month", short_month)
    totals = iter(["these", "others"])

    def fake_totals(*_: object) -> str:
        return next(totals)

    monkeypatch.setattr("tallybook.application.interfaces.cli.demo_story._Demo._all_totals", fake_totals)
    assert "the totals differ" in tallybook.run("demo", status=1).stdout


def test_the_month_is_the_same_each_time() -> None:
    """The 50,000 meter events of 200 customers are generated from a seed, in order of time from a given start."""
    first, second = (list(generate_month(datetime(2026, month, 1, tzinfo=UTC))) for month in (1, 2))
    assert len(first) == EVENT_COUNT
    assert len({event["payload"]["customer"] for event in first}) == CUSTOMERS
    assert [event["payload"] for event in first] == [event["payload"] for event in second]
    assert [event["timestamp"] for event in first] == sorted(event["timestamp"] for event in first)
