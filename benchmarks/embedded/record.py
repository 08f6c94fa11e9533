"""Recording by one writer, one by one and in batches, compared with a raw insert of the same rows."""

import time
from collections.abc import Iterator

from .. import workload
from ..bench import Bench
from ..engines.engine import StoredRow
from ..measure import OURS, Measurement, Target, check_equal, compare, interleave, seconds

TARGETS = {"sqlite": Target(0.5), "postgresql": Target(0.4)}
MAX_EVENTS = 20_000
"""The cost per event does not depend on the number of events, so that more would only take longer."""


def record(bench: Bench) -> Iterator[Measurement]:
    """Measure batches of 1,000 with ordered identifiers."""
    yield _measure(bench, "batches of 1,000", min(bench.events, MAX_EVENTS), 1_000, TARGETS[bench.engine.name])


def batches(bench: Bench) -> Iterator[Measurement]:
    """Measure other batch sizes, and batches of 1,000 with random identifiers."""
    max_events = min(bench.events, MAX_EVENTS)
    yield _measure(bench, "one by one", max(1, max_events // 50), 1)
    yield _measure(bench, "batches of 100", max_events // 5, 100)
    yield _measure(bench, "batches of 10,000", max_events, 10_000)
    yield _measure(bench, "batches of 1,000, random identifiers", min(bench.events, MAX_EVENTS), 1_000, ordered=False)


def _measure(
    bench: Bench, name: str, events: int, size: int, target: Target | None = None, *, ordered: bool = True
) -> Measurement:
    event_batches = list(workload.batches(events, size, ordered=ordered))
    rows: list[StoredRow] = []

    def ours() -> float:
        with bench.empty_ledger() as url:
            elapsed = time_recording(url, event_batches)
            stored = list(bench.engine.stored_rows(url))
        rows[:] = rows or stored
        check_equal("rows recorded", stored, rows)
        return elapsed

    def theirs() -> float:
        with bench.empty_ledger() as url:
            elapsed = time_inserting(bench, url, [rows[first : first + size] for first in range(1, len(rows), size)])
            check_equal("rows inserted", list(bench.engine.stored_rows(url)), rows)
        return elapsed

    ours()  # gets the rows to insert, and warms up both sides
    timings = interleave({OURS: ours, bench.engine.insert_name: theirs}, bench.turns)
    check_equal("events recorded", len(rows), events + 1)
    return compare(name, timings, events, target)


def time_recording(url: str, event_batches: list[workload.MeterEvents]) -> float:
    """Return the seconds to record batches in a ledger. Batches of one event use `record`."""
    with workload.open_ledger(url) as metering:
        started_at = time.perf_counter()
        for batch in event_batches:
            if len(batch) == 1:
                metering.record(**batch[0])
            else:
                metering.record_many(batch)
        return time.perf_counter() - started_at


def time_inserting(bench: Bench, url: str, rows: list[list[StoredRow]]) -> float:
    """Return the seconds to insert batches of rows into the table of a ledger."""
    with bench.engine.raw_table(url) as table:

        def insert_all() -> None:
            for batch in rows:
                table.insert(batch)

        return seconds(insert_all)
