"""The environment of a benchmark: an engine, a number of events, and ledgers of that size."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import workload
from .engines.engine import Engine
from .measure import TURNS
from .subprocess_run import RunResult, run_in_subprocess

LARGE_EVENT_COUNT = 1_000_000
"""On larger ledgers, slow tasks without a target run once."""
SMALL_EVENT_COUNT = 100_000


class Bench:
    """An engine and a number of events. The ledger is recorded on first use, and removed by `clear`.

    `with_target_only` skips slow measurements without a target.
    """

    def __init__(
        self, engine: Engine, folder: Path, events: int, turns: int = TURNS, *, with_target_only: bool = False
    ) -> None:
        self.engine = engine
        self.folder = folder
        self.events = events
        self.turns = turns
        self.with_target_only = with_target_only
        self._url: str | None = None
        self._filled: RunResult | None = None

    @property
    def turns_without_target(self) -> int:
        """Return how often a slow task without a target runs."""
        return self.turns if self.events <= LARGE_EVENT_COUNT else 1

    @property
    def small_size(self) -> int:
        """Return the number of events of the small ledger: 100,000, or a tenth of `events` if that is less."""
        return min(SMALL_EVENT_COUNT, self.events // 10)

    def at_most(self, short: int, long: int) -> int:
        """Return the number of events, limited to `short` in the short form and to `long` otherwise."""
        return min(self.events, short if self.with_target_only else long)

    @property
    def recording(self) -> RunResult:
        """Return the duration and the peak memory of recording the ledger."""
        self.ledger()
        assert self._filled is not None
        return self._filled

    def ledger(self) -> str:
        """Return the URL of the ledger with `events` events. Benchmarks do not change it."""
        if self._url is None:
            self._url, self._filled = self.recorded(self.events)
        return self._url

    def recorded(self, events: int) -> tuple[str, RunResult]:
        """Record a ledger in another process. Return its URL, and the duration and the peak memory of recording it."""
        url = self.engine.new_url()
        result = run_in_subprocess("record", url, events)
        self.engine.settle(url)
        return url, result

    @contextmanager
    def empty_ledger(self, dimension_keys: Sequence[str] = ()) -> Generator[str]:
        """Create a ledger that contains only the meter, and remove it on exit."""
        url = self.engine.new_url()
        workload.open_ledger(url, dimension_keys).close()
        try:
            yield url
        finally:
            self.engine.delete(url)

    def clear(self) -> None:
        """Remove the ledger, if it was recorded."""
        if self._url is not None:
            self.engine.delete(self._url)
            self._url = None
