"""Measurements are stored in a file, documented and charted; a repeated measurement replaces the earlier one."""

import re
import shlex
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import chart, report, results
from benchmarks.machine import Machine
from benchmarks.measure import Measurement, Target, Timings, compare
from benchmarks.results import Results
from benchmarks.suite import NAMES

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "performance.md"
MACHINE: Machine = {"cores": 2, "processor": "abacus", "date": "2026-11-22"}
REBUILT = Measurement(
    "totals",
    1.25,
    target=Target(1),
    figures={"ours µs/event": 2.0, "GROUP BY µs/event": 2.5, "least x": 1.1, "greatest x": 1.4},
    benchmark="rebuild",
    store="sqlite",
    events=1_000,
)
MEMORY = Measurement(
    "to rebuild", 612.0, "MiB", Target(500, is_ceiling=True), 1, {"µs/event": 2.0}, "memory", "sqlite", 1_000
)


def test_a_measurement_is_stored_unchanged(tmp_path: Path) -> None:
    """A stored measurement reads back equal."""
    file = tmp_path / "results.json"
    Results(MACHINE, [REBUILT, MEMORY]).write(file)
    assert results.load(file).measurements == [REBUILT, MEMORY]
    assert results.load(file).machine == MACHINE


def test_a_repeated_measurement_replaces_the_earlier_one(tmp_path: Path) -> None:
    """The store, benchmark and size identify a measurement; all others stay."""
    file = tmp_path / "results.json"
    Results(MACHINE, [REBUILT, MEMORY]).write(file)
    merged = results.load_for_machine({**MACHINE, "date": "2026-11-23"}, file)
    merged.add(replace(REBUILT, value=1.5))
    merged.add(replace(REBUILT, events=10_000))
    assert merged.measurements == [replace(REBUILT, value=1.5), MEMORY, replace(REBUILT, events=10_000)]
    assert merged.machine["date"] == "2026-11-23"


def test_measurements_of_two_machines_do_not_mix(tmp_path: Path) -> None:
    """Results of another machine are rejected, since they can't be compared."""
    file = tmp_path / "results.json"
    Results(MACHINE, [REBUILT]).write(file)
    with pytest.raises(SystemExit, match="of another machine: cores is 2 there and 64 here"):
        results.load_for_machine({**MACHINE, "cores": 64}, file)


def test_the_report_has_a_column_for_each_size(tmp_path: Path) -> None:
    """A cell shows the value, its components, and whether it misses its target."""
    document = tmp_path / "performance.md"
    document.write_text("Before.\n<!-- results -->\nold\n<!-- end of results -->\nAfter.\n")
    report.update_document(document, Results(MACHINE, [REBUILT, MEMORY, replace(REBUILT, value=0.5, events=10_000)]))
    assert document.read_text().splitlines() == [
        "Before.",
        "<!-- results -->",
        "",
        "cores 2, processor abacus, date 2026-11-22.",
        "",
        "### SQLite",
        "",
        "| | target | 1,000 | 10,000 |",
        "|---|---|---:|---:|",
        "| rebuild: totals | >= 1 | 1.25 x (2.00 / 2.50 µs/event) | 0.50 x **MISSED** (2.00 / 2.50 µs/event) |",
        "| memory: to rebuild | <= 500 | 612 MiB **MISSED** (2.00 µs/event) |  |",
        "",
        "<!-- end of results -->",
        "After.",
    ]


def test_the_chart_is_deterministic(tmp_path: Path) -> None:
    """The chart shows each value next to its target, on a transparent background."""
    first, second = tmp_path / "1.svg", tmp_path / "2.svg"
    chart.draw([REBUILT, MEMORY], first)
    chart.draw([REBUILT, MEMORY], second)
    assert first.read_bytes() == second.read_bytes()
    assert "1.25 x (>= 1)" in unescape(first.read_text())
    assert "612 MiB (<= 500)" in unescape(first.read_text())


def test_a_ratio_is_the_median_over_the_turns() -> None:
    """It is not the ratio of the medians: what slows down a turn slows down both sides."""
    timings: Timings = {"ours": [1.0, 10.0, 2.0], "theirs": [2.0, 30.0, 1.0]}
    measurement = compare("usage rows", timings, 1_000_000, Target(2))
    assert (measurement.value, measurement.turns, measurement.verdict) == (2.0, 3, "reached")
    assert measurement.figures == {"ours µs/event": 2.0, "theirs µs/event": 2.0, "least x": 0.5, "greatest x": 3.0}


def test_the_document_shows_the_measurements_of_the_json_file() -> None:
    """The tables of the document are generated from the file."""
    rendered = report.markdown(results.load(DOCUMENT.with_name("performance.json")))
    assert f"{report.START_MARKER}\n{rendered}\n{report.END_MARKER}" in DOCUMENT.read_text()


def test_the_commands_of_the_document_are_valid() -> None:
    """The commands name existing benchmarks; they take too long to run here."""
    text = " ".join((DOCUMENT.read_text() + (ROOT / "README.md").read_text()).split())
    commands = re.findall(r"`\.venv/bin/python -m benchmarks( [^`]*)?`", text)
    assert len(commands) >= 5
    for arguments in commands:
        if "--help" not in arguments:
            command.parser().parse_args(shlex.split(arguments))


def test_the_document_describes_every_benchmark() -> None:
    """Each benchmark appears under the name that runs it."""
    assert [name for name in NAMES if f"`{name}`" not in DOCUMENT.read_text()] == []
