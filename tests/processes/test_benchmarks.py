"""The benchmarks run, in a tiny form that says nothing about speed, and tell a wrong answer from a right one."""

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
    """What Python says in the folder of the project."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def run_with(change: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What the benchmarks say once something of theirs is changed."""
    return run("-c", f"import sys; from benchmarks.__main__ import main; {change}; sys.exit(main({arguments!r}))")


def measured(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """The figures of a run that went well."""
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert all(one["value"] > 0 for one in results)
    return results


@pytest.fixture(scope="module")
def long_form() -> list[dict[str, Any]]:
    """The figures of all benchmarks, on SQLite."""
    fewer = "import benchmarks.embedded.writing_at_once as writing; writing.NUMBERS = (2,)"
    return measured(run_with(fewer, "--long", "--store", "sqlite", "--seconds", "0.5", "--json", *TINY))


def test_every_benchmark_measures_something(long_form: list[dict[str, Any]]) -> None:
    """Each gives its figures, and all answers agree; those with a mark are judged."""
    results = long_form
    assert [(name, len(list(each))) for name, each in groupby(results, lambda one: one["benchmark"])] == [
        ("record", 1),
        ("batches", 4),
        ("writers", 1),
        ("memory", 2),
        ("rebuild", 3),
        ("audit", 3),
        ("months", 7),
        ("explain", 4),
        ("import", 1),
        ("growth", 4),
        ("server", 2),
    ]
    assert {(one["store"], one["events"]) for one in results} == {("sqlite", 1_000), ("sqlite", 0)}
    assert all((one["mark"] is not None) == (one["verdict"] in ("reached", "BELOW")) for one in results)


def test_the_short_form_measures_all_that_has_a_mark(long_form: list[dict[str, Any]]) -> None:
    """But for the server's; and leaves out what takes long and has none."""
    short = measured(run("-m", "benchmarks", "--store", "sqlite", "--json", *TINY))
    assert _marks(short) == _marks([one for one in long_form if one["benchmark"] != SERVER])
    assert len(short) < len(long_form)


def _marks(results: list[dict[str, Any]]) -> dict[str, object]:
    """The marks of what has one."""
    return {f"{one['benchmark']}: {one['what']}": one["mark"] for one in results if one["mark"] is not None}


def test_they_measure_on_postgresql_too(postgres: Database) -> None:
    """In a database that is given."""
    only = [word for name in ("record", "rebuild", "months") for word in ("--only", name)]
    given = ["--postgresql", postgres.url, "--store", "postgresql", "--json"]
    results = measured(run("-m", "benchmarks", *TINY, *only, *given))
    assert {one["benchmark"] for one in results} == {"record", "rebuild", "months"}
    assert {(one["store"], one["events"]) for one in results} == {("postgresql", 1_000)}


@pytest.mark.parametrize(
    ("change", "only", "said"),
    [
        (
            "import benchmarks.engines.sqlite as raw; raw.GROUP_BY = raw.GROUP_BY.replace('count(*)', 'count(*) + 1')",
            "rebuild",
            "counts and sums by customer",
        ),
        ("import benchmarks.usage as usage; usage.position = lambda number: number + 30", "explain", "explain as of"),
        (
            "import benchmarks.server.serving as serving; serving.minutes_around = lambda began, ended: (60, 120)",
            "server",
            "tokens of watched-streams: ours is 0, theirs ",
        ),
    ],
    ids=["an engine's", "ours", "a server's"],
)
def test_a_wrong_answer_ends_the_benchmarks(change: str, only: str, said: str) -> None:
    """Where ours and theirs differ no figure counts: exit status 1, and it says which."""
    done = run_with(change, "--store", "sqlite", "--seconds", "0.5", "--only", only, *TINY)
    assert done.returncode == 1, done.stderr
    assert f"WRONG ANSWER: {said}" in done.stderr
