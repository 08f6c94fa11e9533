"""The reader that trusts in positions: it asks for what comes after the last one that it has seen."""

import time
from collections.abc import Callable, Sequence
from typing import Any

Page = Callable[[int, int], Sequence[tuple[Any, ...]]]
"""Up to so many rows after a position, in order, each with its position first."""

PAGE_SIZE = 1_000
PAUSE_SECONDS = 0.002
PATIENCE_SECONDS = 60


def tailed(page: Page, until: int) -> list[int]:
    """The positions that a reader sees as they come, until it has so many, or nothing has come for too long."""
    seen: list[int] = []
    last_news = time.monotonic()
    while len(seen) < until and time.monotonic() < last_news + PATIENCE_SECONDS:
        if news := new_positions(page, seen):
            seen += news
            last_news = time.monotonic()
        else:
            time.sleep(PAUSE_SECONDS)
    return seen


def new_positions(page: Page, seen: Sequence[int]) -> list[int]:
    """The positions of the next page."""
    return [row[0] for row in page(seen[-1] if seen else 0, PAGE_SIZE)]
