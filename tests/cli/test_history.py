"""The command `history`."""

from pathlib import Path

import pytest
from tallybook.application.system_user import system_user

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """A ledger in which events were cancelled, a period closed and rules changed."""
    line = october_ledger(tmp_path)
    line.environment["COLUMNS"] = "200"
    line.run("period", "close", "tokens", "acme", *OCTOBER)
    line.run("cancel", "tokens", "req-2", "--reason", "bytes, not tokens", "--on-behalf-of", "ops")
    line.run(
        "rules",
        "change",
        "tokens",
        "--formula",
        "max",
        "--reason",
        "new contract",
        "--on-behalf-of",
        "finance",
        "--yes",
    )
    return line


def test_the_history_of_a_meter_says_who_when_how_and_why(tallybook: CommandLine) -> None:
    """The rules that changed are shown with their old and new values."""
    user = system_user()
    configured, closed, changed = tallybook.lines("history", "--meter", "tokens")[2:]
    assert configured.split()[3:] == ["Configured", "meter/tokens", "library", "as", user]
    assert closed.split()[3:] == ["PeriodClosed", "period/tokens/acme", user, "command_line"]
    assert " ".join(changed.split()).endswith(
        f'{user} on behalf of finance command_line new contract; formula: "sum" to "max"'
    )


def test_filters_and_pages(tallybook: CommandLine) -> None:
    """By author, period, event and position; the last line of a page says how to continue."""

    def shown(*arguments: object) -> list[str]:
        return [entry["event"] for entry in tallybook.run_json("history", *arguments)["entries"]]

    assert shown("--author", "ops") == ["EventCancelled"]
    assert shown("--event", "req-2") == ["UsageRecorded", "EventCancelled"]
    assert shown("--meter", "tokens", "--customer", "acme", *OCTOBER) == ["PeriodClosed"]
    assert shown("--meter", "tokens", "--customer", "acme", "--period", "2025-09") == []
    assert shown("--recorded-until", "2025-12-01") == ["Configured"]
    assert shown("--usage", "--until", 3) == ["Configured", "UsageRecorded", "UsageRecorded"]
    assert tallybook.lines("history", "-n", 1)[-1] == "There is more: continue with --after 1."
    assert tallybook.lines("history", "--author", "nobody") == ["No event matches."]
    assert tallybook.run_error("history", "--meter", "nothing") == ("no_meter", "event_name")
