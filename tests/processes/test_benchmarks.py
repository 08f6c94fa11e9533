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
    """Recording, folding, four questions, and memory at two sizes: each has a ratio, and all answers agree."""
    done = run("-m", "benchmarks", "--events", "2000", "--json")
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
