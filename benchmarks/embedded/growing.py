"""Growth: the same work on a small ledger and on a large one, in turns; 1 is where history costs nothing."""

import statistics
from collections.abc import Iterator

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
    with usage.opened(url) as one, usage.opened(bench.ledger()) as other:
        small = Appended(bench.engine, url, one, bench.small_size)
        large = Appended(bench.engine, bench.ledger(), other, bench.events)
        took = in_turns({SMALL: small.ask, LARGE: large.ask}, ASKS)
        yield _grown(bench, "one customer's month of 1,000 events", took[SMALL], took[LARGE], 1)
        took = in_turns({SMALL: small.append, LARGE: large.append})
    bench.engine.delete(url)
    yield _grown(bench, "record, batches of 1,000", took[SMALL], took[LARGE], MORE)
    yield _grown(bench, "catch up, 5,000 events more", small.folded, large.folded, MORE)
    yield compared("catch up", "5,000 events more", {OURS: large.folded, bench.engine.group_name: large.grouped}, MORE)


def _grown(bench: Bench, what: str, small: list[float], large: list[float], events: int) -> Measured:
    each = ratios(small, large)
    figures = {
        f"{bench.small_size:,} µs": microseconds_each(small, events),
        f"{bench.events:,} µs": microseconds_each(large, events),
        "least x": each[0],
        "greatest x": each[-1],
    }
    if len(each) == ASKS:  # single answers differ by more than their ledgers do
        return Measured("growth", what, statistics.median(large) / statistics.median(small), "x", MARK, ASKS, figures)
    return Measured("growth", what, statistics.median(each), "x", MARK, len(each), figures)
