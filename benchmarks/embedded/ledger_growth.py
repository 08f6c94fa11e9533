"""The same tasks on a small and on a large ledger, in turns. A ratio of 1 means that the size of the ledger is free."""

import statistics
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace

from .. import workload
from ..bench import Bench
from ..measure import OURS, Measurement, Target, compare, interleave, microseconds_per_event, ratios
from .appended_ledger import APPENDED_EVENTS, AppendedLedger
from .queries import QUERIES

TARGET = Target(1.5, is_ceiling=True)
SMALL, LARGE = "small", "large"


def growth(bench: Bench) -> Iterator[Measurement]:
    """Measure a query of 1,000 events, recording, and folding. Must run last, because it appends to the ledger."""
    url, _ = bench.recorded(bench.small_size)
    with (
        _appended_ledger(bench, url, bench.small_size) as small,
        _appended_ledger(bench, bench.ledger(), bench.events) as large,
    ):
        timings = interleave({SMALL: small.query, LARGE: large.query}, QUERIES)
        recorded = interleave({SMALL: small.append, LARGE: large.append}, 2 * bench.turns)
    bench.engine.delete(url)
    # Single queries vary more than the ledgers differ: use the ratio of the medians, not the median of the ratios.
    ratio_of_medians = statistics.median(timings[LARGE]) / statistics.median(timings[SMALL])
    yield replace(
        _compare_sizes(bench, "one customer's month of 1,000 events", timings[SMALL], timings[LARGE], 1),
        value=ratio_of_medians,
    )
    yield _compare_sizes(bench, "record, batches of 1,000", recorded[SMALL], recorded[LARGE], APPENDED_EVENTS)
    yield _compare_sizes(
        bench, f"catch up, {APPENDED_EVENTS:,} new events", small.folded, large.folded, APPENDED_EVENTS
    )
    folded = {OURS: large.folded, bench.engine.group_name: large.grouped}
    yield compare(f"catch up, {APPENDED_EVENTS:,} new events, against the engine", folded, APPENDED_EVENTS)


@contextmanager
def _appended_ledger(bench: Bench, url: str, events: int) -> Generator[AppendedLedger]:
    with workload.open_ledger(url) as metering, bench.engine.group_by(url, bench.engine.group_name) as group:
        yield AppendedLedger(metering, group, events)


def _compare_sizes(bench: Bench, name: str, small: list[float], large: list[float], events: int) -> Measurement:
    ratio_values = ratios(small, large)
    figures = {
        f"{bench.small_size:,} µs": microseconds_per_event(small, events),
        f"{bench.events:,} µs": microseconds_per_event(large, events),
        "least x": ratio_values[0],
        "greatest x": ratio_values[-1],
    }
    return Measurement(name, statistics.median(ratio_values), "x", TARGET, len(ratio_values), figures)
