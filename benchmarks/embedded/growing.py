"""Growth: the same work on a small ledger and on a large one, in turns; 1 is where history costs nothing."""

import statistics
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace

from .. import usage
from ..bench import Bench
from ..measure import OURS, Mark, Measured, compared, in_turns, microseconds_each, ratios
from .appending import MORE, Appended
from .asking import ASKS

MARK = Mark(1.5, is_ceiling=True)
SMALL, LARGE = "small", "large"


def growth(bench: Bench) -> Iterator[Measured]:
    """One customer's month of 1,000 events, recording more, and folding that. It comes last: the ledger grows by it."""
    url, _ = bench.recorded(bench.small_size)
    with _appended(bench, url, bench.small_size) as small, _appended(bench, bench.ledger(), bench.events) as large:
        asked = in_turns({SMALL: small.ask, LARGE: large.ask}, ASKS)
        recorded = in_turns({SMALL: small.append, LARGE: large.append}, 2 * bench.turns)
    bench.engine.delete(url)
    # Single answers differ by more than their ledgers do: the ratio of their medians, and not a median of ratios.
    between = statistics.median(asked[LARGE]) / statistics.median(asked[SMALL])
    yield replace(_grown(bench, "one customer's month of 1,000 events", asked[SMALL], asked[LARGE], 1), value=between)
    yield _grown(bench, "record, batches of 1,000", recorded[SMALL], recorded[LARGE], MORE)
    yield _grown(bench, f"catch up, {MORE:,} events more", small.folded, large.folded, MORE)
    folded = {OURS: large.folded, bench.engine.group_name: large.grouped}
    yield compared(f"catch up, {MORE:,} events more, beside the engine", folded, MORE)


@contextmanager
def _appended(bench: Bench, url: str, events: int) -> Generator[Appended]:
    with usage.opened(url) as metering, bench.engine.grouping(url, bench.engine.group_name) as group:
        yield Appended(metering, group, events)


def _grown(bench: Bench, what: str, small: list[float], large: list[float], events: int) -> Measured:
    each = ratios(small, large)
    figures = {
        f"{bench.small_size:,} µs": microseconds_each(small, events),
        f"{bench.events:,} µs": microseconds_each(large, events),
        "least x": each[0],
        "greatest x": each[-1],
    }
    return Measured(what, statistics.median(each), "x", MARK, len(each), figures)
