"""Memory: what recording and rebuilding take at their peak, each in a process of its own."""

from collections.abc import Iterator

from ..apart import MEBIBYTE, Done, apart
from ..bench import Bench
from ..measure import Mark, Measured

MARK = Mark(500, is_ceiling=True)


def memory(bench: Bench) -> Iterator[Measured]:
    """Of the process and those that it starts, together; at each size, so that growth shows."""
    yield _measured("to record", bench, bench.filled)
    bench.engine.delete_views(bench.ledger())
    yield _measured("to rebuild", bench, apart("rebuild", bench.ledger(), bench.events), MARK)


def _measured(what: str, bench: Bench, done: Done, mark: Mark | None = None) -> Measured:
    figures = {"µs/event": done.seconds / bench.events * 1e6}
    return Measured(what, done.peak_bytes / MEBIBYTE, "MiB", mark, 1, figures)
