"""Where a benchmark runs: an engine, a size, and ledgers of that size."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from . import usage
from .apart import Done, apart
from .engines.engine import Engine
from .measure import TURNS

LARGE = 1_000_000
"""Beyond this, what has no mark is done once."""
SMALL_SIZE = 100_000


class Bench:
    """One engine and one number of events. Its ledger is recorded when it is first asked for; `clear` removes it.

    `marked_only` leaves out what takes long and has no mark.
    """

    def __init__(
        self, engine: Engine, folder: Path, events: int, turns: int = TURNS, *, marked_only: bool = False
    ) -> None:
        self.engine = engine
        self.folder = folder
        self.events = events
        self.turns = turns
        self.marked_only = marked_only
        self._url: str | None = None
        self._filled: Done | None = None

    @property
    def unmarked_turns(self) -> int:
        """How often something is done that is slow and has no mark."""
        return self.turns if self.events <= LARGE else 1

    @property
    def small_size(self) -> int:
        """The size that growth is told from: 100,000, or a tenth where there are no more."""
        return min(SMALL_SIZE, self.events // 10)

    @property
    def filled(self) -> Done:
        """How it was to record the ledger."""
        self.ledger()
        assert self._filled is not None
        return self._filled

    def ledger(self) -> str:
        """The URL of a ledger of so many events, which benchmarks leave as it is."""
        if self._url is None:
            self._url, self._filled = self.recorded(self.events)
        return self._url

    def recorded(self, events: int) -> tuple[str, Done]:
        """A ledger with so many events, recorded by another process; and how that was."""
        url = self.engine.new_url()
        done = apart("record", url, events)
        self.engine.settle(url)
        return url, done

    @contextmanager
    def empty_ledger(self) -> Generator[str]:
        """A ledger in which nothing but the meter is configured, removed afterwards."""
        url = self.engine.new_url()
        usage.opened(url).close()
        try:
            yield url
        finally:
            self.engine.delete(url)

    def clear(self) -> None:
        """Remove the ledger."""
        if self._url is not None:
            self.engine.delete(self._url)
            self._url = None
