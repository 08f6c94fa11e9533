"""Measuring: ours and theirs in turns, so that a noisy machine troubles both alike."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


class WrongAnswer(Exception):
    """Ours and theirs differ: no figure counts."""


@dataclass(frozen=True)
class Measured:
    """One benchmark: a ratio, the mark it should reach, and what it was made of."""

    name: str
    ratio: float
    mark: str
    reached: bool | None
    figures: dict[str, str] = field(default_factory=dict[str, str])


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(ours: Callable[[], float], theirs: Callable[[], float], times: int) -> tuple[list[float], list[float]]:
    """The seconds that each takes, `times` times; every other time the other goes first."""
    pairs: list[tuple[float, float]] = []
    for turn in range(times):
        if turn % 2:
            second = theirs()
            pairs.append((ours(), second))
        else:
            pairs.append((ours(), theirs()))
    return [one for one, _ in pairs], [other for _, other in pairs]


def speed_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How fast ours is where theirs is 1: the median of the turns' own ratios."""
    return statistics.median(their / our for our, their in zip(ours, theirs, strict=True))


def spread(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The least and the greatest ratio of any turn."""
    ratios = sorted(their / our for our, their in zip(ours, theirs, strict=True))
    return f"{ratios[0]:.2f}..{ratios[-1]:.2f}"


def rate(events: int, took: Sequence[float]) -> str:
    """Events a second, at the median."""
    return f"{events / statistics.median(took):,.0f}/s"


def milliseconds(took: Sequence[float]) -> str:
    """The median and the 99th percentile."""
    ordered = sorted(took)
    at_99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return f"{statistics.median(ordered) * 1_000:.2f}/{at_99 * 1_000:.2f} ms"


def agree(what: str, ours: object, theirs: object) -> None:
    """Raise WrongAnswer unless both say the same."""
    if ours != theirs:
        raise WrongAnswer(f"{what}: ours is {str(ours)[:200]}, theirs {str(theirs)[:200]}")
