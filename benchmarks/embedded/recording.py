"""Recording by one writer: one by one and in batches, against the engine's own way to write the very same rows."""

import time
from collections.abc import Iterator

from .. import usage
from ..bench import Bench
from ..engines.engine import StoredRow
from ..measure import OURS, Mark, Measured, agree, compared, in_turns, seconds

MARKS = {"sqlite": Mark(0.5), "postgresql": Mark(0.4)}
MOST = 20_000
"""What is recorded in a turn costs as much as what came before it, so that there needn't be more."""


def record(bench: Bench) -> Iterator[Measured]:
    """Batches of 1,000, with ordered identifiers."""
    yield _measured(bench, "batches of 1,000", min(bench.events, MOST), 1_000, MARKS[bench.engine.name])


def batches(bench: Bench) -> Iterator[Measured]:
    """Other batches, and the same whose identifiers come in no order."""
    most = min(bench.events, MOST)
    yield _measured(bench, "one by one", max(1, most // 50), 1)
    yield _measured(bench, "batches of 100", most // 5, 100)
    yield _measured(bench, "batches of 10,000", most, 10_000)
    yield _measured(bench, "batches of 1,000, random identifiers", min(bench.events, MOST), 1_000, ordered=False)


def _measured(
    bench: Bench, what: str, events: int, size: int, mark: Mark | None = None, *, ordered: bool = True
) -> Measured:
    reports = list(usage.batches(events, size, ordered=ordered))
    rows: list[StoredRow] = []

    def ours() -> float:
        with bench.empty_ledger() as url:
            took = recorded(url, reports)
            stored = list(bench.engine.stored_rows(url))
        rows[:] = rows or stored
        agree("rows recorded", stored, rows)
        return took

    def theirs() -> float:
        with bench.empty_ledger() as url:
            took = inserted(bench, url, [rows[first : first + size] for first in range(1, len(rows), size)])
            agree("rows inserted", list(bench.engine.stored_rows(url)), rows)
        return took

    ours()  # for the rows that are to be inserted, and to warm both up
    took = in_turns({OURS: ours, bench.engine.insert_name: theirs}, bench.turns)
    agree("events recorded", len(rows), events + 1)
    return compared(what, took, events, mark)


def recorded(url: str, reports: list[usage.Reports]) -> float:
    """The seconds to record batches into a ledger; batches of one with `record`."""
    with usage.opened(url) as metering:
        began = time.perf_counter()
        for batch in reports:
            if len(batch) == 1:
                metering.record(**batch[0])
            else:
                metering.record_many(batch)
        return time.perf_counter() - began


def inserted(bench: Bench, url: str, rows: list[list[StoredRow]]) -> float:
    """The seconds to insert batches of rows into the table of a ledger."""
    with bench.engine.raw_table(url) as table:

        def insert_all() -> None:
            for batch in rows:
                table.insert(batch)

        return seconds(insert_all)
