"""`python -m benchmarks.chart results.json chart.svg`: draws the cost per event by size, and the targets.

The chart is legible on white and on black: it is transparent, and its grey contrasts with both. Equal results produce
equal files.
"""

# pyright: reportUnknownMemberType=false
# The type hints of matplotlib do not cover its keyword arguments.

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from . import results
from .measure import Measurement
from .report import STORES
from .table import format_number

GREY = "#808080"
PADDING = 8
"""The factor by which the logarithmic axis is longer than the longest bar, to leave room for its label."""
COLOURS = {"sqlite": "#1f8fd6", "postgresql": "#d97a16"}
COSTS = {
    ("memory", "to record"): ("record", "-"),
    ("rebuild", "usage rows and totals"): ("rebuild", "--"),
    ("rebuild", "totals only, from the ledger"): ("totals from the ledger", ":"),
}
STYLE: dict[RcKeyType, Any] = {
    "svg.hashsalt": "tallybook",
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def draw(measurements: Sequence[Measurement], file: Path) -> None:
    """Write the chart to an SVG file."""
    with_target = list(_largest(measurements))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 5 + 0.2 * len(with_target)), layout="constrained")
        rows = figure.add_gridspec(2, 1, height_ratios=(4, 1 + 0.2 * len(with_target)))
        _draw_costs(figure.add_subfigure(rows[0]).subplots(), measurements)
        _draw_targets(figure.add_subfigure(rows[1]).subplots(), with_target)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})


def _largest(measurements: Sequence[Measurement]) -> Iterator[Measurement]:
    """Yield each measurement with a target, at the largest size for which it exists."""
    latest = {
        (measurement.store, measurement.benchmark, measurement.what): measurement
        for measurement in sorted(measurements, key=lambda measurement: measurement.events)
    }
    yield from (measurement for measurement in latest.values() if measurement.target is not None)


def _draw_costs(axes: Axes, measurements: Sequence[Measurement]) -> None:
    for store, colour in COLOURS.items():
        for (benchmark, name), (label, line) in COSTS.items():
            points = sorted(
                (measurement.events, measurement.figures.get("ours µs/event", measurement.figures.get("µs/event", 0.0)))
                for measurement in measurements
                if (measurement.store, measurement.benchmark, measurement.what) == (store, benchmark, name)
            )
            if points:
                axes.plot(*zip(*points, strict=True), line, marker="o", color=colour, label=f"{STORES[store]}: {label}")
    axes.set(xscale="log", yscale="log", xlabel="events in the ledger", ylabel="µs per event")
    sizes = sorted({measurement.events for measurement in measurements if measurement.benchmark == "memory"})
    axes.set_xticks(sizes, [f"{events:,}" for events in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("Cost per event, by size")
    axes.grid(visible=True, alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_targets(axes: Axes, with_target: list[Measurement]) -> None:
    times = [_ratio_to_target(measurement) for measurement in with_target]
    axes.barh(
        range(len(with_target)), times, color=[COLOURS[measurement.store] for measurement in with_target], height=0.7
    )
    axes.axvline(1, color=GREY, linestyle="--")
    axes.set(xscale="log", xlabel="ratio to the target: reached at 1 or more")
    axes.set_xlim(right=max(1, *times) * PADDING)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(with_target)), [_label(measurement) for measurement in with_target])
    axes.invert_yaxis()
    for row, (measurement, reach) in enumerate(zip(with_target, times, strict=True)):
        axes.text(
            max(reach, 1) * 1.05,
            row,
            f"{format_number(measurement.value)} {measurement.unit} ({measurement.target})",
            va="center",
            fontsize=8,
        )
    axes.set_title("Each value and its target, at the largest size")


def _label(measurement: Measurement) -> str:
    """Return the name of a measurement, with its number of events if it has one."""
    return f"{measurement.benchmark}: {measurement.what}" + (f", {measurement.events:,}" if measurement.events else "")


def _ratio_to_target(measurement: Measurement) -> float:
    assert measurement.target is not None
    return (
        measurement.target.limit / measurement.value
        if measurement.target.is_ceiling
        else measurement.value / measurement.target.limit
    )


def main(arguments: Sequence[str]) -> int:
    """Draw the results in a file, and return the exit status."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    draw(results.load(Path(arguments[0])).measurements, Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
