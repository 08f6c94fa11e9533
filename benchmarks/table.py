"""Formats measurements as lines of text."""

from collections.abc import Mapping

from .measure import Measurement

HEADING = f"{'benchmark':<11}{'what':<52}{'value':>11}  {'target':<7} {'':<8} {'turns':>5}  computed from"


def format_line(measurement: Measurement) -> str:
    """Return a line with a value, its target, and the figures from which it was computed."""
    target = "" if measurement.target is None else str(measurement.target)
    figure = f"{format_number(measurement.value)} {measurement.unit}"
    judged = f"{figure:>11}  {target:<7} {measurement.verdict:<8} {measurement.turns:>5}"
    return (
        f"{measurement.benchmark:<11}{measurement.what:<52}{judged}  {describe_figures(measurement.figures)}".rstrip()
    )


def describe_figures(figures: Mapping[str, float]) -> str:
    """Return the figures from which a value was computed, separated by commas."""
    lowest, highest = figures.get("least x"), figures.get("greatest x")
    parts = [
        _describe_figure(name, figure) for name, figure in figures.items() if name not in ("least x", "greatest x")
    ]
    if lowest is not None and highest is not None:
        parts.append(f"{lowest:.2f}..{highest:.2f}")
    return ", ".join(parts)


def format_number(figure: float) -> str:
    """Return a number with its significant digits."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.1f}" if abs(figure) >= 20 else f"{figure:.2f}"


def _describe_figure(name: str, figure: float) -> str:
    label, _, unit = name.rpartition(" ")
    return f"{label} {format_number(figure)} {unit}".strip()
