"""`python -m benchmarks.chart results.json chart.svg`: cost per event by size, and each figure beside its mark.

Legible on white and on black: nothing behind, and a grey that stands out against both. The same results give the same
file, so that only a figure changes it.
"""

# pyright: reportUnknownMemberType=false
# matplotlib leaves the types of its keywords open.

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from . import results
from .measure import Measured
from .report import STORES
from .table import number

GREY = "#808080"
ROOM = 8
"""How much further than the longest bar its label goes, on a logarithmic axis."""
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


def draw(found: Sequence[Measured], file: Path) -> None:
    """Write the chart."""
    marked = list(_largest(found))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 5 + 0.2 * len(marked)), layout="constrained")
        rows = figure.add_gridspec(2, 1, height_ratios=(4, 1 + 0.2 * len(marked)))
        _draw_costs(figure.add_subfigure(rows[0]).subplots(), found)
        _draw_marks(figure.add_subfigure(rows[1]).subplots(), marked)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})


def _largest(found: Sequence[Measured]) -> Iterator[Measured]:
    """Each figure that has a mark, at the largest size that it was measured at."""
    kept = {(one.store, one.benchmark, one.what): one for one in sorted(found, key=lambda one: one.events)}
    yield from (one for one in kept.values() if one.mark is not None)


def _draw_costs(axes: Axes, found: Sequence[Measured]) -> None:
    for store, colour in COLOURS.items():
        for (benchmark, what), (label, line) in COSTS.items():
            points = sorted(
                (one.events, one.figures.get("ours µs/event", one.figures.get("µs/event", 0.0)))
                for one in found
                if (one.store, one.benchmark, one.what) == (store, benchmark, what)
            )
            if points:
                axes.plot(*zip(*points, strict=True), line, marker="o", color=colour, label=f"{STORES[store]}: {label}")
    axes.set(xscale="log", yscale="log", xlabel="events in the ledger", ylabel="µs per event")
    sizes = sorted({one.events for one in found if one.benchmark == "memory"})
    axes.set_xticks(sizes, [f"{events:,}" for events in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("Cost per event, by size")
    axes.grid(visible=True, alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_marks(axes: Axes, marked: list[Measured]) -> None:
    times = [_times_its_mark(one) for one in marked]
    axes.barh(range(len(marked)), times, color=[COLOURS[one.store] for one in marked], height=0.7)
    axes.axvline(1, color=GREY, linestyle="--")
    axes.set(xscale="log", xlabel="times its mark; at 1 and beyond it is reached")
    axes.set_xlim(right=max(1, *times) * ROOM)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(marked)), [_label(one) for one in marked])
    axes.invert_yaxis()
    for row, (one, reach) in enumerate(zip(marked, times, strict=True)):
        axes.text(max(reach, 1) * 1.05, row, f"{number(one.value)} {one.unit} ({one.mark})", va="center", fontsize=8)
    axes.set_title("Each figure beside its mark, at the largest size")


def _label(one: Measured) -> str:
    """What was measured, and of how many events where that is told."""
    return f"{one.benchmark}: {one.what}" + (f", {one.events:,}" if one.events else "")


def _times_its_mark(one: Measured) -> float:
    assert one.mark is not None
    return one.mark.limit / one.value if one.mark.is_ceiling else one.value / one.mark.limit


def main(arguments: Sequence[str]) -> int:
    """Draw what is in a file of results."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    draw(results.read(Path(arguments[0])).measured, Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
