"""The reader that trusts in positions: it asks for what comes after the last one that it has seen."""

import time
from collections.abc import Callable, Sequence
from typing import Any

Page = Callable[[int, int], Sequence[tuple[Any, ...]]]
"""Up to so many rows after a position, in order, each with its position first."""

PAGE_SIZE = 1_000
PAUSE_SECONDS = 0.002
TIMEOUT_SECONDS = 60


def tail_positions(page: Page, until: int) -> list[int]:
    """The positions that a reader sees as they come, until it has so many, or nothing has come for too long."""
    positions: list[int] = []
    last_news = time.monotonic()
    while len(positions) < until and time.monotonic() < last_news + TIMEOUT_SECONDS:
        if page_positions := new_positions(page, positions):
            positions += page_positions
            last_news = time.monotonic()
        else:
            time.sleep(PAUSE_SECONDS)
    return positions


def new_positions(page: Page, positions: Sequence[int]) -> list[int]:
    """The positions of the next page."""
    return [row[0] for row in page(positions[-1] if positions else 0, PAGE_SIZE)]
