"""The commands for all customers: `period run`, `period runs` and `period status`."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.commands.run_closings import MeterRun
from tallybook.application.system_user import system_user

from .command_line import CommandLine
from .october_ledger import OCTOBER, october_ledger, record_tokens


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return october_ledger(tmp_path)


def test_a_run_closes_each_customer_and_its_totals_add_up(tallybook: CommandLine) -> None:
    """A customer that is closed already stays as it is, and running it again returns the run."""
    tallybook.run("period", "close", "tokens", "acme", *OCTOBER)
    table = [
        "meter    customers   quantity   billable   events   usage events   before   late   not closed",
        "─────────────────────────────────────────────────────────────────────────────────────────────",
        "tokens           2      3,027      3,027        4              4        1      0            0",
        "tokens: the closings add up to the usage, 3,027",
    ]
    assert tallybook.lines("period", "run", *OCTOBER, "--on-behalf-of", "finance") == [
        "billing run 1, 2025-10 is closed, from the events up to position 7",
        *table,
    ]
    assert tallybook.lines("period", "run", *OCTOBER) == [
        "billing run 1, 2025-10 was closed before, from the events up to position 7",
        *table,
    ]
    result = tallybook.run_json("period", "run", *OCTOBER)
    assert (result["was_closed"], result["is_complete"], result["run"]["closed_by"]) == (True, True, system_user())
    (run,) = tallybook.run_json("period", "runs")
    assert run == result["run"]
    lines = tallybook.lines("period", "runs")
    assert lines[0] == "billing run 1, 2025-10 (UTC)"
    assert lines[2].endswith(f" by {system_user()}")
    assert lines[-4:] == table


@pytest.mark.parametrize("columns", ["200", "40"])
def test_the_author_of_a_run_does_not_control_the_terminal(tallybook: CommandLine, columns: str) -> None:
    """Control and bidi characters are escaped, also if the line is folded."""
    with Metering.open(tallybook.url) as metering:
        metering.periods.run(
            datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC), by="ops\x1b]0;title\x07\u202e"
        )
    tallybook.environment["COLUMNS"] = columns
    output = tallybook.run("period", "runs").stdout
    assert r"ops\x1b]0;title\x07\u202e" in output
    assert all(line.isprintable() for line in output.splitlines())


def test_a_customer_that_can_not_be_closed_is_reported(tallybook: CommandLine) -> None:
    """The exit status is 1, and the periods of the other customers are closed."""
    tallybook.run("period", "close", "tokens", "acme", "--from", "2025-10-06", "--to", "2025-10-08")
    lines = tallybook.run("period", "run", "tokens", *OCTOBER, status=1).stdout.splitlines()
    assert lines[-2] == "tokens: the usage is 3,027, +3,020 and 3 events more than the closings"
    assert lines[-1].startswith("tokens, acme, +3,020 of 3 events: not closed: period_overlaps: ")
    result = tallybook.run_json("period", "run", "tokens", *OCTOBER, status=1)
    (difference,) = result["differences"]
    assert (difference["customer"], difference["error"]["code"]) == ("acme", "period_overlaps")
    lines = tallybook.run("period", "status", *OCTOBER, status=1).stdout.splitlines()
    assert lines[1:] == [
        "meter    closed   late   open   unbilled customers   unbilled events",
        "────────────────────────────────────────────────────────────────────",
        "tokens        1      0      0                    1                 2",
        "tokens, acme, 2025-10-01 00:00:00 to 2025-10-06 00:00:00 (UTC) is closed in part: 2 events with 3,025",
        "tokens, acme, 2025-10-06 00:00:00 to 2025-10-08 00:00:00 (UTC) is closed with other bounds",
        "Some usage is in no closed period and in no adjustment.",
    ]


def test_usage_of_a_late_customer_is_an_adjustment(tallybook: CommandLine) -> None:
    """All usage is billed then; before the run, all was open."""
    open_lines = tallybook.run("period", "status", *OCTOBER, status=1).stdout.splitlines()
    assert open_lines[3:5] == [
        "tokens        0      0      2                    2                 4",
        "tokens, acme, 2025-10-01 00:00:00 to 2025-11-01 00:00:00 (UTC) is not closed: 3 events with 3,020",
    ]
    limited = tallybook.run("period", "status", *OCTOBER, "--limit", 1, status=1).stdout.splitlines()
    assert limited[5] == "tokens: … and 1 other range with unbilled usage"
    tallybook.run("period", "run", *OCTOBER)
    record_tokens(tallybook, "req-9", "omega", "70", "2025-10-20T09:00:00")
    lines = tallybook.lines("period", "status", *OCTOBER)
    assert lines[3:] == [
        "tokens        2      1      0                    0                 0",
        "All usage is billed, or owed as an adjustment.",
    ]
    (adjustment,) = tallybook.run_json("period", "adjustments", "tokens")
    assert (adjustment["period"]["customer"], adjustment["difference"], adjustment["is_late"]) == ("omega", "70", True)
    assert tallybook.lines("period", "adjustments", "tokens", "omega")[2].split()[:4] == ["omega", "2025-10", "0", "70"]


def test_a_run_can_continue_after_an_interruption(tallybook: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C the exit status is 130; the list and the status say that the run was interrupted."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MeterRun, "_close_batch", interrupt)
    stderr = tallybook.run("period", "run", *OCTOBER, status=130).stderr
    assert stderr.startswith("tallybook: interrupted: Interrupted. Run the command again to continue the billing run")
    monkeypatch.undo()
    assert "  closed          interrupted: run the same command again" in tallybook.lines("period", "runs")
    status = tallybook.run("period", "status", *OCTOBER, status=1).stdout
    assert "billing run 1 was interrupted; run the same command again to complete it" in status
    assert tallybook.run_json("period", "run", *OCTOBER)["run"]["number"] == 1
