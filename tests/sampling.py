"""The everyday size of tests that could run for hours.

A run tests a sample of the cases of such a test: another sample on each day, so that all cases are tested within days.
`TALLYBOOK_TEST_LONG=1` tests all cases, and more random examples. `TALLYBOOK_TEST_DAY` repeats the samples of a day.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

IS_LONG = bool(os.environ.get("TALLYBOOK_TEST_LONG"))

DAY = int(os.environ.setdefault("TALLYBOOK_TEST_DAY", str(datetime.now(UTC).toordinal())))
"""The number of the day. The variable is set for the workers, which must select the same tests at midnight."""

SUMMARY = (
    "All cases of the long tests were selected."
    if IS_LONG
    else f"Samples of the long tests: TALLYBOOK_TEST_DAY={DAY} repeats them, TALLYBOOK_TEST_LONG=1 selects all cases."
)

T = TypeVar("T")


def sample(cases: Sequence[T], count: int) -> list[T]:
    """Return at most `count` of the cases, at equal distances, and others on the next day; all cases in a long run."""
    if IS_LONG or len(cases) <= count:
        return list(cases)
    distance = -(-len(cases) // count)
    return list(cases[DAY % distance :: distance])


def examples(count: int) -> int:
    """Return the number of random examples of a property: `count` in a long run, otherwise half of it."""
    return count if IS_LONG else count // 2
