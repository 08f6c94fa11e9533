"""Recording by several processes at once, against one raw writer of as many rows."""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.managers import SyncManager
from threading import Barrier

from .. import usage
from ..bench import Bench
from ..measure import OURS, Measured, agree, compared, in_turns
from .recording import MOST, inserted

NUMBERS = (1, 4, 8)
PATIENCE_SECONDS = 120


def writers(bench: Bench) -> Iterator[Measured]:
    """1, 4 and 8 processes that record batches of 1,000 into one ledger."""
    events = min(bench.events, MOST)
    with bench.empty_ledger() as url:
        _record_share(url, events, 0, 1, None)
        rows = list(bench.engine.stored_rows(url))
    size = usage.BATCH
    batches = [rows[first : first + size] for first in range(1, len(rows), size)]

    def theirs() -> float:
        with bench.empty_ledger() as url:
            return inserted(bench, url, batches)

    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(max(NUMBERS), mp_context=context) as pool:
        for number in NUMBERS:

            def ours(number: int = number) -> float:
                with bench.empty_ledger() as url:
                    took = _recorded_by(number, url, events, pool, manager)
                    agree("rows recorded", sorted(bench.engine.stored_rows(url)), sorted(rows))
                return took

            ours()  # processes that have begun
            took = in_turns({OURS: ours, f"one {bench.engine.insert_name}": theirs}, bench.turns)
            noun = "writer" if number == 1 else "writers"
            yield compared(f"{number} {noun}, batches of 1,000", took, events)


def _recorded_by(number: int, url: str, events: int, pool: ProcessPoolExecutor, manager: SyncManager) -> float:
    together = manager.Barrier(number, timeout=PATIENCE_SECONDS)
    shares = [pool.submit(_record_share, url, events, share, number, together) for share in range(number)]
    spans = [share.result() for share in shares]
    return max(ended for _, ended in spans) - min(began for began, _ in spans)


def _record_share(url: str, events: int, share: int, shares: int, together: Barrier | None) -> tuple[float, float]:
    """Record every batch whose turn it is, once all are ready; when that began and ended, by a clock of all."""
    batches = [batch for number, batch in enumerate(usage.batches(events)) if number % shares == share]
    with usage.opened(url) as metering:
        if together is not None:
            together.wait()
        began = time.monotonic()
        for batch in batches:
            metering.record_many(batch)
        return began, time.monotonic()
