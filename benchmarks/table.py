"""The figures as lines for people."""

from collections.abc import Mapping

from .measure import Measured

HEADING = f"{'benchmark':<11}{'what':<52}{'figure':>11}  {'mark':<7} {'':<8} {'turns':>5}  made of"


def line(one: Measured) -> str:
    """One figure, its mark, and what it was made of."""
    mark = "" if one.mark is None else str(one.mark)
    figure = f"{number(one.value)} {one.unit}"
    judged = f"{figure:>11}  {mark:<7} {one.verdict:<8} {one.turns:>5}"
    return f"{one.benchmark:<11}{one.what:<52}{judged}  {made_of(one.figures)}".rstrip()


def made_of(figures: Mapping[str, float]) -> str:
    """What a figure was made of, in words."""
    least, greatest = figures.get("least x"), figures.get("greatest x")
    words = [_words(name, figure) for name, figure in figures.items() if name not in ("least x", "greatest x")]
    if least is not None and greatest is not None:
        words.append(f"{least:.2f}..{greatest:.2f}")
    return ", ".join(words)


def number(figure: float) -> str:
    """A figure with as many digits as mean something."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.1f}" if abs(figure) >= 20 else f"{figure:.2f}"


def _words(name: str, figure: float) -> str:
    what, _, unit = name.rpartition(" ")
    return f"{what} {number(figure)} {unit}".strip()
