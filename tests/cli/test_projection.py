"""The commands for generations: `status`, `rebuild`, `diff`, `promote` and `drop`."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from tallybook.application import Metering

from .command_line import CommandLine
from .october_ledger import october_ledger, record_tokens


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return october_ledger(tmp_path)


def test_a_new_ledger_has_one_generation_that_is_live(tallybook: CommandLine) -> None:
    """The first query folds it to the head."""
    assert tallybook.run_json("projection", "status") == [
        {"number": 1, "state": "live", "position": 0, "head": 6, "rules": {}, "effective_from": {}}
    ]
    tallybook.run("total", "tokens")
    assert tallybook.lines("projection", "status") == [
        "generation   state   position   changed rules",
        "─────────────────────────────────────────────",
        "         1   live      6 of 6",
    ]


def test_a_rebuild_does_not_affect_the_live_generation_until_promoted(tallybook: CommandLine) -> None:
    """The output lists the next commands; after a promotion, the previous generation can be promoted again."""
    assert tallybook.lines("projection", "rebuild") == [
        "Generation 2 is ready, built up to position 6. The live read models are unchanged.",
        "  tallybook projection diff 2      show what it would change",
        "  tallybook projection promote 2   make it live",
        "  tallybook projection drop 2      delete it",
    ]
    assert "No total differs." in tallybook.lines("projection", "diff", 2)
    assert tallybook.lines("projection", "promote", 2) == [
        "Generation 2 is live.",
        "Generation 1 is retired; 'tallybook projection promote 1' makes it live again.",
    ]
    assert tallybook.run_json("projection", "promote", 1) == {
        "generation": {
            "number": 1,
            "state": "live",
            "position": 6,
            "head": 6,
            "rules": {},
            "effective_from": {},
        },
        "meters": [],
        "effective_from": {},
        "retired": 2,
    }
    assert [generation["state"] for generation in tallybook.run_json("projection", "status")] == ["live", "retired"]


def test_promoting_the_live_generation_changes_nothing(tallybook: CommandLine) -> None:
    """No generation is retired."""
    assert tallybook.lines("projection", "promote", 1) == ["Generation 1 is live."]


def test_a_generation_is_dropped_unless_it_is_live(tallybook: CommandLine) -> None:
    """Dropping an unknown generation is an error too."""
    tallybook.run("projection", "rebuild")
    assert tallybook.run_json("projection", "drop", 2) == {"dropped": 2}
    assert tallybook.run_error("projection", "drop", 2) == ("generation_not_found", "generation")
    assert tallybook.run_error("projection", "drop", 1) == ("generation_in_use", "generation")
    assert tallybook.run_error("projection", "promote", 2)[0] == "generation_not_found"
    assert tallybook.run_error("projection", "diff", 2)[0] == "generation_not_found"
    assert tallybook.run_error("projection", "drop", 0)[0] == "parameter_invalid"


def build_candidate(tallybook: CommandLine, **rules: object) -> int:
    """Build a candidate with other rules for `tokens`."""
    with Metering.open(tallybook.url) as metering:
        return metering.generations.rebuild(rules={"tokens": rules}).number


def test_a_difference_lists_each_meter_and_the_largest_changes_first(tallybook: CommandLine) -> None:
    """Text has signs and thousands separators, and JSON the same numbers."""
    build_candidate(tallybook, formula="last", event_time_window="day")
    difference = tallybook.run_json("projection", "diff", 2)
    assert difference["digest"].startswith("month UTC ")
    assert tallybook.lines("projection", "diff", 2) == [
        "Generation 2 compared with the live one, up to position 6",
        "meter    changed customers   before   after   difference",
        "────────────────────────────────────────────────────────",
        "tokens                   1    3,038      13       -3,025",
        "",
        "customer   month (UTC)   state   before   after   difference   billable before   billable after",
        "───────────────────────────────────────────────────────────────────────────────────────────────",
        "acme       2025-10       open     3,020      -5       -3,025             3,020                0",
        "",
        f"  digest          {difference['digest']}",
    ]
    assert difference["meters"] == [
        {"event_name": "tokens", "customers": 1, "before": "3038", "after": "13", "difference": "-3025"}
    ]
    assert difference["differences"] == [
        {
            "event_name": "tokens",
            "customer": "acme",
            "start": "2025-10-01T00:00:00Z",
            "end": "2025-11-01T00:00:00Z",
            "before": "3020",
            "after": "-5",
            "billable_before": "3020",
            "billable_after": "0",
            "state": "open",
            "dimensions": {},
            "difference": "-3025",
        }
    ]
    assert (difference["generation"], difference["position"], difference["window"], difference["left_out"]) == (
        2,
        6,
        "month",
        0,
    )


def test_a_difference_follows_window_timezone_and_limit(tallybook: CommandLine) -> None:
    """The output says how many smaller differences are omitted; the sums of the meter include them."""
    build_candidate(tallybook, formula="count")
    days = tallybook.run_json("projection", "diff", 2, "--window", "day", "--timezone", "Europe/Berlin", "--limit", 2)
    assert [(difference["start"], difference["before"], difference["after"]) for difference in days["differences"]] == [
        ("2025-10-04T22:00:00Z", "3025", "2"),
        ("2025-09-30T22:00:00Z", "11", "1"),
    ]
    assert (days["left_out"], days["meters"][0]["customers"]) == (2, 2)
    lines = tallybook.lines("projection", "diff", 2, "--window", "day", "--limit", 1)
    assert lines[-4].startswith("acme       2025-10-05 ")
    assert lines[-3] == "and 3 smaller differences; --limit shows more."
    assert tallybook.lines("projection", "diff", 2, "--limit", 0)[-3].startswith("and 3 smaller")
    assert tallybook.run_error("projection", "diff", 2, "--window", "week")[0] == "parameter_invalid"
    assert tallybook.run_error("projection", "diff", 2, "--timezone", "Mars/Olympus")[0] == "unknown_timezone"


def test_an_incorrect_live_total_appears_in_the_difference(tallybook: CommandLine) -> None:
    """If a bucket was corrupted, the rebuilt generation has the correct total."""
    tallybook.run("total", "tokens")
    with closing(sqlite3.connect(tallybook.read_models_file)) as connection, connection:
        connection.execute("UPDATE totals_1 SET sum = '8' WHERE sum = '7'")
    tallybook.run("projection", "rebuild")
    (difference,) = tallybook.run_json("projection", "diff", 2)["differences"]
    assert (difference["customer"], difference["before"], difference["after"]) == ("zeta", "8", "7")


def test_promoting_different_rules_needs_a_reason_and_prints_the_active_rules(tallybook: CommandLine) -> None:
    """The retired generation has rules that are no longer in force, and `status` shows them."""
    build_candidate(tallybook, formula="last", event_time_window="day")
    assert tallybook.lines("projection", "status")[-1].endswith("tokens: formula last, window day")
    assert tallybook.run_error("projection", "promote", 2) == ("parameter_invalid", "reason")
    assert tallybook.lines("projection", "promote", 2, "--reason", "seats, not calls", "--on-behalf-of", "ops") == [
        "Generation 2 is live.",
        "tokens is now counted by last per day (keys: customer, tokens), rules revision 2.",
        "Closed periods are unchanged.",
        "Generation 1 is retired; 'tallybook projection promote 1 --reason ...' makes it live again.",
    ]
    assert tallybook.lines("projection", "status")[2:] == [
        "         1   retired     0 of 7   tokens: formula sum, window none",
        "         2   live        7 of 7",
    ]
    back = tallybook.run_json("projection", "promote", 1, "--reason", "it was a slip")
    assert [(meter["formula"], meter["revision"]) for meter in back["meters"]] == [("sum", 3)]
    assert tallybook.run_json("total", "tokens", "acme", "--period", "2025-10")["value"] == "3020"


SLOW_REBUILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent of the tests may ignore the signal
from tallybook.application.interfaces.cli import main
from tallybook.application.read_models.generations import Generations
from tallybook.projections.projector import Projector

project_page = Projector._project_page

def slowly(projector, *bounds):
    time.sleep(0.05)
    return project_page(projector, *bounds)

Projector._project_page = slowly
Generations.rebuild.__defaults__ = (10,)
sys.argv = ["tallybook", *sys.argv[1:]]
main()
"""


def interrupted_rebuild(tallybook: CommandLine, *arguments: str, position: int) -> "subprocess.CompletedProcess[str]":
    """Run a rebuild with slow pages of ten events, and interrupt it after a position."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_REBUILD, "projection", "rebuild", "--ledger", tallybook.url, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with Metering.open(tallybook.url) as metering:
        while not any(
            generation.state == "building" and generation.position > position
            for generation in metering.generations.list()
        ):
            assert process.poll() is None
            time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def test_an_interrupted_rebuild_prints_its_progress_and_resumes(tallybook: CommandLine) -> None:
    """The exit status is 130 without a traceback; the same command resumes the same generation."""
    with Metering.open(tallybook.url) as metering:
        payload = {"customer": "cus", "tokens": "1"}
        metering.record_many({"event_name": "tokens", "payload": payload} for _ in range(1_000))
    before = tallybook.run_json("total", "tokens", "cus")
    completed = interrupted_rebuild(tallybook, position=20)
    assert completed.returncode == 130, completed.stderr
    assert completed.stdout == ""
    assert completed.stderr.startswith("tallybook: interrupted: Interrupted at position ")
    assert completed.stderr.endswith(
        "of 1,006 in generation 2. The live read models are unchanged. Run the same command to resume, or "
        "'tallybook projection drop 2' to delete the generation.\n"
    )
    assert tallybook.run_json("total", "tokens", "cus") == before
    reached = tallybook.run_json("projection", "status")[1]["position"]
    assert f" {reached:,} of 1,006 " in completed.stderr
    assert tallybook.run_error("projection", "promote", 2) == ("generation_in_use", "generation")

    resumed = interrupted_rebuild(tallybook, "--json", position=reached)
    assert json.loads(resumed.stderr)["error"]["code"] == "interrupted"
    built = tallybook.run_json("projection", "rebuild")
    assert (built["number"], built["state"], built["position"]) == (2, "ready", 1_006)
    tallybook.run("projection", "promote", 2)
    assert tallybook.run("verify").stdout.count(" equal") == 6


def test_status_shows_the_lag_of_a_generation(tallybook: CommandLine) -> None:
    """Queries fold only the live generation."""
    tallybook.run("projection", "rebuild")
    record_tokens(tallybook, "req-6", "acme", "1", "2025-10-30T00:00:00")
    tallybook.run("total", "tokens")
    assert [generation["position"] for generation in tallybook.run_json("projection", "status")] == [7, 6]
