"""Totals from the whole ledger, compared with the GROUP BY of the engine and of DuckDB over the same stored JSON."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from tallybook.application import Total

from .. import workload
from ..bench import Bench
from ..engines.duckdb import NAME as DUCKDB
from ..engines.duckdb import open_duckdb
from ..engines.engine import CountAndSum, GroupBy
from ..measure import OURS, Measurement, Target, check_equal, compare, interleave, seconds, time_query

REBUILD_TARGET, COUNT_TARGET = Target(1), Target(2)
REPLAY = "replay"


def rebuild(bench: Bench) -> Iterator[Measurement]:
    """Measure a rebuild of deleted read models, and totals without read models, in the same turns."""
    url, engine = bench.ledger(), bench.engine
    results: list[list[CountAndSum]] = []

    def rebuild_read_models() -> float:
        engine.delete_read_models(url)
        with workload.open_ledger(url) as metering:
            elapsed = seconds(metering.catch_up)
            results.append(count_and_sum(metering.totals(workload.METER, workload.START, workload.END)))
        return elapsed

    def replay() -> float:
        with workload.open_ledger(url) as metering:
            return time_query(
                lambda: count_and_sum(metering.replay_totals(workload.METER, workload.START, workload.END)), results
            )

    groupings = (engine.group_name,) if bench.with_target_only else tuple(engine.groupings)
    with ExitStack() as opened:
        tasks: dict[str, Callable[[], float]] = {OURS: rebuild_read_models, REPLAY: replay}
        if not bench.with_target_only:
            duckdb = opened.enter_context(open_duckdb(engine, url, bench.folder))
            tasks[DUCKDB] = lambda: time_query(duckdb.group_by_customer, results)
        for name in groupings:
            tasks[name] = partial(_run_group_by, opened.enter_context(engine.group_by(url, name)), results)
        timings = interleave(tasks, bench.turns)
    for result in results:
        check_equal("counts and sums by customer", result, results[0])
    check_equal("events counted", sum(row[1] for row in results[0]), bench.events)
    targets: tuple[Target | None, Target | None] = (REBUILD_TARGET, COUNT_TARGET)
    note = ""
    for name in groupings:
        yield compare(f"usage rows and totals{note}", timings, bench.events, targets[0], theirs=name)
        yield compare(f"totals only, from the ledger{note}", timings, bench.events, targets[1], REPLAY, name)
        targets, note = (None, None), ", against the fastest GROUP BY"
    if not bench.with_target_only:
        yield compare("totals only, against DuckDB", timings, bench.events, ours=REPLAY, theirs=DUCKDB)


def _run_group_by(group_by: GroupBy, results: list[list[CountAndSum]]) -> float:
    return time_query(lambda: group_by(0), results)


def count_and_sum(totals: Sequence[Total]) -> list[CountAndSum]:
    """Return count and sum of each customer in the form in which the engines return them."""
    return [(str(total.customer), total.count, total.sum) for total in totals]
