"""Measures tasks in turns, so that noise on the machine affects all of them equally."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Result = TypeVar("Result")

TURNS = 5
"""How often each task runs. The result is the median."""
OURS = "ours"


class WrongResult(Exception):
    """Tallybook and an engine return different results: the measurement is invalid."""


@dataclass(frozen=True)
class Target:
    """The value that a measurement should reach: at least the limit, or at most if it is a ceiling."""

    limit: float
    is_ceiling: bool = False

    def is_reached(self, value: float) -> bool:
        """Return whether a value reaches the target."""
        return value <= self.limit if self.is_ceiling else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.is_ceiling else '>='} {self.limit:g}"


@dataclass(frozen=True)
class Measurement:
    """A measured value, with the target that it should reach, if any.

    The unit `x` is a ratio. `figures` are the values from which it was computed. Their names end with the unit. The
    suite adds `benchmark`, `store` and `events`.
    """

    what: str
    value: float
    unit: str = "x"
    target: Target | None = None
    turns: int = TURNS
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    benchmark: str = ""
    store: str = ""
    events: int = 0

    @property
    def verdict(self) -> str:
        """Return "reached" or "MISSED", or an empty string if there is no target."""
        return "" if self.target is None else "reached" if self.target.is_reached(self.value) else "MISSED"


def seconds(task: Callable[[], object]) -> float:
    """Return the seconds that a task takes."""
    started_at = time.perf_counter()
    task()
    return time.perf_counter() - started_at


def time_query(query: Callable[[], Result], results: list[Result]) -> float:
    """Return the seconds that a query takes, and append its result to `results`."""
    started_at = time.perf_counter()
    result = query()
    elapsed = time.perf_counter() - started_at
    results.append(result)
    return elapsed


Timings = dict[str, list[float]]
"""The seconds of each turn, by the name of the task."""


def interleave(tasks: Mapping[str, Callable[[], float]], turns: int) -> Timings:
    """Run all tasks in each turn, with another first task each time. Return the seconds that each task reported."""
    timings: Timings = {name: [] for name in tasks}
    for turn in range(turns):
        names = list(tasks)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            timings[name].append(tasks[name]())
    return timings


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of their time to our time in each turn, in ascending order."""
    return sorted(their / our for our, their in zip(ours, theirs, strict=True))


def compare(
    what: str,
    timings: Timings,
    events: int,
    target: Target | None = None,
    ours: str = OURS,
    theirs: str | None = None,
) -> Measurement:
    """Return the speed of a task as the ratio to another task (by default the last), for this number of events."""
    against = theirs or list(timings)[-1]
    ratio_values = ratios(timings[ours], timings[against])
    figures = {
        "ours µs/event": microseconds_per_event(timings[ours], events),
        f"{against} µs/event": microseconds_per_event(timings[against], events),
    }
    if len(ratio_values) > 1:
        figures |= {"least x": ratio_values[0], "greatest x": ratio_values[-1]}
    return Measurement(what, statistics.median(ratio_values), "x", target, len(ratio_values), figures)


def microseconds_per_event(timings: Sequence[float], events: int) -> float:
    """Return the median of the turns in microseconds per event."""
    return statistics.median(timings) / events * 1e6


def p99(timings: Sequence[float]) -> float:
    """Return the 99th percentile."""
    ordered = sorted(timings)
    return ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]


def check_equal(name: str, ours: object, theirs: object) -> None:
    """Raise WrongResult if the two results differ."""
    if ours != theirs:
        raise WrongResult(f"{name}: ours is {str(ours)[:200]}, theirs {str(theirs)[:200]}")
