"""The demo: its story is true, fits a screen, and leaves a ledger to explore."""

import shlex
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from tallybook.application.cli import demo_story
from tallybook.application.demo import CUSTOMERS, REPORTS, DemoReport, month_of_usage

from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return CommandLine(tmp_path)


def short_month(start: datetime) -> list[DemoReport]:
    return list(islice(month_of_usage(start), 2_000))


def test_the_story_fits_a_screen_and_its_last_commands_work(
    tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 50 lines of 80 columns; each command it suggests runs as it is printed."""
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
    for program, *words in commands:
        assert program == "tallybook"
        assert tallybook.lines(*words)


def test_a_demo_begins_a_ledger_of_its_own(tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next free name in this folder, never the ledger that the environment names; one that is there is refused."""
    monkeypatch.setattr(demo_story, "month_of_usage", short_month)
    tallybook.write("tallybook-demo.db", "mine")
    assert tallybook.lines("demo")[0].endswith("sqlite:///tallybook-demo-2.db")
    assert tallybook.lines("demo", "--ledger", "sqlite:///other.db")[0].endswith("sqlite:///other.db")
    for url in ("sqlite:///tallybook-demo.db", "sqlite:///other.db", "sqlite://", "mysql://x"):
        said = tallybook.run("demo", "--ledger", url, status=1).stderr
        assert said.startswith("tallybook: invalid_ledger_url: ")
    assert Path("tallybook-demo.db").read_text() == "mine"
    assert not Path("usage.db").exists()


def test_a_replay_with_other_figures_is_told(tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo says so and ends with status 1: it claims nothing that it didn't see."""
    monkeypatch.setattr(demo_story, "month_of_usage", short_month)
    answers = iter(["these", "others"])

    def figures(*_: object) -> str:
        return next(answers)

    monkeypatch.setattr("tallybook.application.cli.demo_story._Story._figures", figures)
    assert "the figures differ" in tallybook.run("demo", status=1).stdout


def test_the_month_is_the_same_each_time() -> None:
    """Seeded: 50,000 reports of 200 customers in the order of time, relative to its start."""
    first, second = (list(month_of_usage(datetime(2026, month, 1, tzinfo=UTC))) for month in (1, 2))
    assert len(first) == REPORTS
    assert len({one["payload"]["customer"] for one in first}) == CUSTOMERS
    assert [one["payload"] for one in first] == [one["payload"] for one in second]
    assert [one["timestamp"] for one in first] == sorted(one["timestamp"] for one in first)
