"""The benchmarks run, in a tiny form that says nothing about speed, and tell a wrong answer from a right one."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """What Python says in the folder of the project."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_benchmark_measures_something() -> None:
    """Recording, folding, four questions, memory at two sizes, a server: each has a ratio, and all answers agree."""
    done = run("-m", "benchmarks", "--events", "2000", "--seconds", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["events"] == 2_000
    assert [one["name"].partition(",")[0].partition(" /")[0] for one in said["benchmarks"]] == [
        "record_many",
        "catch_up",
        "total",
        "totals",
        "total",
        "totals",
        "peak memory to record",
        "peak memory to fold",
        "v2 stream",
        "v1 meter events",
    ]
    assert all(one["ratio"] > 0 for one in said["benchmarks"])


def test_a_wrong_answer_ends_the_benchmarks() -> None:
    """Where ours and theirs differ no figure counts: exit status 1, and it says which."""
    done = run(
        "-c",
        "import sys; from benchmarks import folding;"
        "from benchmarks.__main__ import main;"
        "folding.GROUP_BY = folding.GROUP_BY.replace('count(*)', 'count(*) + 1');"
        "sys.exit(main(['--events', '500']))",
    )
    assert done.returncode == 1, done.stderr
    assert "WRONG ANSWER: counts and sums by customer" in done.stderr


def test_a_server_that_shows_something_else_ends_the_benchmarks() -> None:
    """What was acknowledged must be in the summaries at once; here they are asked for a time without usage."""
    done = run(
        "-c",
        "import sys; from benchmarks import serving;"
        "from benchmarks.__main__ import main;"
        "serving.minutes_around = lambda began, ended: (60, 120);"
        "sys.exit(main(['--serving', '--seconds', '0.5']))",
    )
    assert done.returncode == 1, done.stderr
    assert "WRONG ANSWER: tokens of watched-streams: ours is 0, theirs " in done.stderr
