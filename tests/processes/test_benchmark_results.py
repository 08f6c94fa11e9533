"""What was measured is kept in a file, told in a document and drawn; a part that is measured again takes its place."""

import re
import shlex
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import chart, report, results
from benchmarks.machine import Machine
from benchmarks.measure import Mark, Measured, Took, compared
from benchmarks.results import Results
from benchmarks.suite import NAMES

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "performance.md"
MACHINE: Machine = {"cores": 2, "processor": "abacus", "date": "2026-11-22"}
REBUILT = Measured(
    "totals",
    1.25,
    mark=Mark(1),
    figures={"ours µs/event": 2.0, "GROUP BY µs/event": 2.5, "least x": 1.1, "greatest x": 1.4},
    benchmark="rebuild",
    store="sqlite",
    events=1_000,
)
MEMORY = Measured(
    "to rebuild", 612.0, "MiB", Mark(500, is_ceiling=True), 1, {"µs/event": 2.0}, "memory", "sqlite", 1_000
)


def test_a_figure_is_kept_as_it_is(tmp_path: Path) -> None:
    """Written and read again it is the same."""
    file = tmp_path / "results.json"
    Results(MACHINE, [REBUILT, MEMORY]).write(file)
    assert results.read(file).measured == [REBUILT, MEMORY]
    assert results.read(file).machine == MACHINE


def test_what_is_measured_again_takes_the_place_of_the_earlier_figure(tmp_path: Path) -> None:
    """By store, benchmark and size; all others stay."""
    file = tmp_path / "results.json"
    Results(MACHINE, [REBUILT, MEMORY]).write(file)
    merged = results.of_machine({**MACHINE, "date": "2026-11-23"}, file)
    merged.add(replace(REBUILT, value=1.5))
    merged.add(replace(REBUILT, events=10_000))
    assert merged.measured == [replace(REBUILT, value=1.5), MEMORY, replace(REBUILT, events=10_000)]
    assert merged.machine["date"] == "2026-11-23"


def test_figures_of_two_machines_do_not_mix(tmp_path: Path) -> None:
    """They would be compared."""
    file = tmp_path / "results.json"
    Results(MACHINE, [REBUILT]).write(file)
    with pytest.raises(SystemExit, match="of another machine: cores 2, here 64"):
        results.of_machine({**MACHINE, "cores": 64}, file)


def test_the_report_has_a_column_for_each_size(tmp_path: Path) -> None:
    """With the figure, what it was made of, and whether it is below its mark."""
    document = tmp_path / "performance.md"
    document.write_text("Before.\n<!-- results -->\nold\n<!-- end of results -->\nAfter.\n")
    report.put_into(document, Results(MACHINE, [REBUILT, MEMORY, replace(REBUILT, value=0.5, events=10_000)]))
    assert document.read_text().splitlines() == [
        "Before.",
        "<!-- results -->",
        "",
        "cores 2, processor abacus, date 2026-11-22.",
        "",
        "### SQLite",
        "",
        "| | mark | 1,000 | 10,000 |",
        "|---|---|---:|---:|",
        "| rebuild: totals | >= 1 | 1.25 x (2.00 / 2.50 µs/event) | 0.50 x **BELOW** (2.00 / 2.50 µs/event) |",
        "| memory: to rebuild | <= 500 | 612 MiB **BELOW** (2.00 µs/event) |  |",
        "",
        "<!-- end of results -->",
        "After.",
    ]


def test_the_chart_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """It shows each figure beside its mark, with nothing behind it."""
    first, second = tmp_path / "1.svg", tmp_path / "2.svg"
    chart.draw([REBUILT, MEMORY], first)
    chart.draw([REBUILT, MEMORY], second)
    assert first.read_bytes() == second.read_bytes()
    assert "1.25 x (>= 1)" in unescape(first.read_text())
    assert "612 MiB (<= 500)" in unescape(first.read_text())


def test_a_ratio_is_the_median_of_the_ratios_of_the_turns() -> None:
    """And not that of the medians: what slows down a turn slows down both."""
    took: Took = {"ours": [1.0, 10.0, 2.0], "theirs": [2.0, 30.0, 1.0]}
    one = compared("usage rows", took, 1_000_000, Mark(2))
    assert (one.value, one.turns, one.verdict) == (2.0, 3, "reached")
    assert one.figures == {"ours µs/event": 2.0, "theirs µs/event": 2.0, "least x": 0.5, "greatest x": 3.0}


def test_the_document_has_the_figures_of_the_file_beside_it() -> None:
    """Nobody wrote them by hand."""
    found = report.markdown(results.read(DOCUMENT.with_name("performance.json")))
    assert f"{report.BEGINS}\n{found}\n{report.ENDS}" in DOCUMENT.read_text()


def test_the_commands_of_the_document_are_understood() -> None:
    """They take long, so that they aren't run here; what they measure is named rightly."""
    text = " ".join((DOCUMENT.read_text() + (ROOT / "README.md").read_text()).split())
    commands = re.findall(r"`\.venv/bin/python -m benchmarks( [^`]*)?`", text)
    assert len(commands) >= 5
    for arguments in commands:
        if "--help" not in arguments:
            command.parser().parse_args(shlex.split(arguments))


def test_the_document_tells_of_every_benchmark() -> None:
    """By the name that it is run by."""
    assert [name for name in NAMES if f"`{name}`" not in DOCUMENT.read_text()] == []
