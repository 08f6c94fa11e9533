"""Measuring: ours and theirs in turns, so that a noisy machine troubles all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Answer = TypeVar("Answer")

TURNS = 5
"""How often each is done; what is told is the median."""
OURS = "ours"


class WrongAnswer(Exception):
    """Ours and theirs differ: no figure counts."""


@dataclass(frozen=True)
class Mark:
    """What a figure should reach: at least the limit, or at most."""

    limit: float
    is_ceiling: bool = False

    def is_reached(self, value: float) -> bool:
        """Whether a figure reaches it."""
        return value <= self.limit if self.is_ceiling else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.is_ceiling else '>='} {self.limit:g}"


@dataclass(frozen=True)
class Measured:
    """One figure: of what, and the mark it should reach if there is one.

    The unit `x` is a ratio. `figures` are what it was made of, each named with its unit at the end. By which benchmark,
    where and of how many events it was measured is added by who runs the benchmark.
    """

    what: str
    value: float
    unit: str = "x"
    mark: Mark | None = None
    turns: int = TURNS
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    benchmark: str = ""
    store: str = ""
    events: int = 0

    @property
    def verdict(self) -> str:
        """Whether it reaches its mark; nothing where it has none."""
        return "" if self.mark is None else "reached" if self.mark.is_reached(self.value) else "BELOW"


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def answered(ask: Callable[[], Answer], answers: list[Answer]) -> float:
    """How long an answer takes, which is put to the others."""
    began = time.perf_counter()
    answer = ask()
    took = time.perf_counter() - began
    answers.append(answer)
    return took


Took = dict[str, list[float]]
"""The seconds of each turn, by who took them."""


def in_turns(works: Mapping[str, Callable[[], float]], turns: int) -> Took:
    """The seconds that each work says it took, so many times; each turn another one goes first."""
    took: Took = {name: [] for name in works}
    for turn in range(turns):
        names = list(works)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            took[name].append(works[name]())
    return took


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How fast ours is where theirs is 1, in each turn; in order of size."""
    return sorted(their / our for our, their in zip(ours, theirs, strict=True))


def compared(
    what: str,
    took: Took,
    events: int,
    mark: Mark | None = None,
    ours: str = OURS,
    theirs: str | None = None,
) -> Measured:
    """How fast one of those that took turns over so many events is, where another one (the last) is 1."""
    against = theirs or list(took)[-1]
    each = ratios(took[ours], took[against])
    figures = {
        "ours µs/event": microseconds_each(took[ours], events),
        f"{against} µs/event": microseconds_each(took[against], events),
    }
    if len(each) > 1:
        figures |= {"least x": each[0], "greatest x": each[-1]}
    return Measured(what, statistics.median(each), "x", mark, len(each), figures)


def microseconds_each(took: Sequence[float], events: int) -> float:
    """What an event costs at the median, in microseconds."""
    return statistics.median(took) / events * 1e6


def p99(took: Sequence[float]) -> float:
    """The 99th percentile."""
    ordered = sorted(took)
    return ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]


def agree(what: str, ours: object, theirs: object) -> None:
    """Raise WrongAnswer unless both say the same."""
    if ours != theirs:
        raise WrongAnswer(f"{what}: ours is {str(ours)[:200]}, theirs {str(theirs)[:200]}")
