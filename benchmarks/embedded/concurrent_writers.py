"""Recording by several processes at once, compared with one raw writer of the same number of rows."""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.managers import SyncManager
from threading import Barrier

from .. import workload
from ..bench import Bench
from ..measure import OURS, Measurement, check_equal, compare, interleave
from .record import MAX_EVENTS, time_inserting

WRITER_COUNTS = (1, 4, 8)
TIMEOUT_SECONDS = 120


def writers(bench: Bench) -> Iterator[Measurement]:
    """Measure 1, 4 and 8 processes that record batches of 1,000 in one ledger."""
    events = min(bench.events, MAX_EVENTS)
    with bench.empty_ledger() as url:
        _record_share(url, events, 0, 1, None)
        rows = list(bench.engine.stored_rows(url))
    size = workload.BATCH_SIZE
    batches = [rows[first : first + size] for first in range(1, len(rows), size)]

    def theirs() -> float:
        with bench.empty_ledger() as url:
            return time_inserting(bench, url, batches)

    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(max(WRITER_COUNTS), mp_context=context) as pool:
        for number in WRITER_COUNTS:

            def ours(writer_count: int = number) -> float:
                with bench.empty_ledger() as url:
                    elapsed = _time_recording(writer_count, url, events, pool, manager)
                    check_equal("rows recorded", sorted(bench.engine.stored_rows(url)), sorted(rows))
                return elapsed

            ours()  # starts the processes
            timings = interleave({OURS: ours, f"one {bench.engine.insert_name}": theirs}, bench.turns)
            noun = "writer" if number == 1 else "writers"
            yield compare(f"{number} {noun}, batches of 1,000", timings, events)


def _time_recording(writer_count: int, url: str, events: int, pool: ProcessPoolExecutor, manager: SyncManager) -> float:
    barrier = manager.Barrier(writer_count, timeout=TIMEOUT_SECONDS)
    shares = [pool.submit(_record_share, url, events, share, writer_count, barrier) for share in range(writer_count)]
    spans = [share.result() for share in shares]
    return max(ended_at for _, ended_at in spans) - min(started_at for started_at, _ in spans)


def _record_share(url: str, events: int, share: int, shares: int, barrier: Barrier | None) -> tuple[float, float]:
    """Record one share of the batches when all processes are ready. Return the start and the end as monotonic times."""
    batches = [batch for number, batch in enumerate(workload.batches(events)) if number % shares == share]
    with workload.open_ledger(url) as metering:
        if barrier is not None:
            barrier.wait()
        started_at = time.monotonic()
        for batch in batches:
            metering.record_many(batch)
        return started_at, time.monotonic()
