"""A reader that relies on positions: it reads what follows the last position that it has read."""

import time
from collections.abc import Callable, Sequence
from typing import Any

Page = Callable[[int, int], Sequence[tuple[Any, ...]]]
"""Returns up to a number of rows after a position, in order; the first column is the position."""

PAGE_SIZE = 1_000
PAUSE_SECONDS = 0.002
TIMEOUT_SECONDS = 60


def tail_positions(page: Page, until: int) -> list[int]:
    """Return the positions that a reader reads, until it has `until` of them or no new row arrives in time."""
    positions: list[int] = []
    last_arrival = time.monotonic()
    while len(positions) < until and time.monotonic() < last_arrival + TIMEOUT_SECONDS:
        if page_positions := new_positions(page, positions):
            positions += page_positions
            last_arrival = time.monotonic()
        else:
            time.sleep(PAUSE_SECONDS)
    return positions


def new_positions(page: Page, positions: Sequence[int]) -> list[int]:
    """Return the positions of the next page."""
    return [row[0] for row in page(positions[-1] if positions else 0, PAGE_SIZE)]
