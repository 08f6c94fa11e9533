"""Ends a search for histories as soon as they have covered every case."""

from collections.abc import Callable, Set
from contextlib import suppress

from hypothesis import Phase, settings


class _Covered(Exception):
    """Every case is covered."""


def stop_if_covered(seen: Set[str], expected: Set[str]) -> None:
    """End the search at the end of an example if every expected case was seen."""
    if seen >= expected:
        raise _Covered


def search(collect: Callable[[], None]) -> None:
    """Run a test of Hypothesis that collects cases, until it calls `stop_if_covered` with all of them."""
    with suppress(_Covered):
        collect()


def first_examples(count: int) -> settings:
    """Return the settings of a search: at most so many examples, and none is shrunk.

    The same are tried in each run, but for the constants of loaded modules, which Hypothesis tries too.
    """
    return settings(max_examples=count, derandomize=True, phases=[Phase.generate])
