"""The benchmarks run at a tiny size that says nothing about speed, and detect a wrong result."""

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from benchmarks.suite import SERVER

from ..postgres import Database

ROOT = Path(__file__).parents[2]
TINY = ["--events", "1000", "--turns", "1"]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in the project's folder."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def run_with(change: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the benchmarks with one of their parts changed."""
    return run("-c", f"import sys; from benchmarks.__main__ import main; {change}; sys.exit(main({arguments!r}))")


def measurements(completed: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """Return the measurements of a successful run."""
    assert completed.returncode == 0, completed.stderr
    results = json.loads(completed.stdout)["results"]
    assert all(result["value"] > 0 for result in results)
    return results


@pytest.fixture(scope="module")
def long_form() -> list[dict[str, Any]]:
    """Return the measurements of all benchmarks, on SQLite."""
    fewer = "import benchmarks.embedded.concurrent_writers as writing; writing.WRITER_COUNTS = (2,)"
    return measurements(run_with(fewer, "--long", "--store", "sqlite", "--seconds", "0.5", "--json", *TINY))


def test_every_benchmark_measures_something(long_form: list[dict[str, Any]]) -> None:
    """Each benchmark returns measurements, and all results agree; those with a target are judged."""
    results = long_form
    assert [(name, len(list(group))) for name, group in groupby(results, lambda result: result["benchmark"])] == [
        ("record", 1),
        ("batches", 4),
        ("writers", 1),
        ("dimensions", 7),
        ("quota", 2),
        ("memory", 2),
        ("rebuild", 3),
        ("audit", 3),
        ("archive", 3),
        ("months", 7),
        ("formulas", 14),
        ("groups", 1),
        ("explain", 4),
        ("import", 2),
        ("growth", 4),
        ("server", 2),
    ]
    assert {(result["store"], result["events"]) for result in results} == {("sqlite", 1_000), ("sqlite", 0)}
    assert all((result["target"] is not None) == (result["verdict"] in ("reached", "MISSED")) for result in results)


def test_the_short_form_measures_all_that_has_a_target(long_form: list[dict[str, Any]]) -> None:
    """All but the server's are included; benchmarks that take long and have no target are omitted."""
    short = measurements(run("-m", "benchmarks", "--store", "sqlite", "--json", *TINY))
    assert _targets(short) == _targets([result for result in long_form if result["benchmark"] != SERVER])
    assert len(short) < len(long_form)


def _targets(results: list[dict[str, Any]]) -> dict[str, object]:
    """Return the targets of the measurements that have one."""
    return {
        f"{result['benchmark']}: {result['what']}": result["target"]
        for result in results
        if result["target"] is not None
    }


def test_the_benchmarks_run_on_postgresql_too(postgres: Database) -> None:
    """The benchmarks accept the URL of a database."""
    names = ("record", "dimensions", "rebuild", "months", "formulas", "groups")
    only = [argument for name in names for argument in ("--only", name)]
    options = ["--postgresql", postgres.url, "--store", "postgresql", "--json"]
    results = measurements(run("-m", "benchmarks", *TINY, *only, *options))
    assert {result["benchmark"] for result in results} == set(names)
    assert {(result["store"], result["events"]) for result in results} == {("postgresql", 1_000)}


@pytest.mark.parametrize(
    ("change", "only", "message"),
    [
        (
            "import benchmarks.engines.sqlite as raw; raw.GROUP_BY = raw.GROUP_BY.replace('count(*)', 'count(*) + 1')",
            "rebuild",
            "counts and sums by customer",
        ),
        (
            "import benchmarks.engines.sqlite_typed_table as typed; typed.QUANTITIES['max'] = 'min(value)'",
            "formulas",
            "max, one customer's month, SQL",
        ),
        ("import benchmarks.workload as load; load.position = lambda number: number + 30", "explain", "explain as of"),
        (
            "import benchmarks.server.server_benchmark as load; load.minutes_around = lambda began, ended: (60, 120)",
            "server",
            "tokens of watched-stream_requests: ours is 0, theirs ",
        ),
    ],
    ids=["an engine's", "SQL's", "ours", "a server's"],
)
def test_a_wrong_result_ends_the_benchmarks(change: str, only: str, message: str) -> None:
    """If the results of the two sides differ, the exit status is 1 and the message names the difference."""
    completed = run_with(change, "--store", "sqlite", "--seconds", "0.5", "--only", only, *TINY)
    assert completed.returncode == 1, completed.stderr
    assert f"WRONG RESULT: {message}" in completed.stderr
