"""Queries of totals, compared with SQL on a typed table of the same usage that has a covering index."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from tallybook.application import Metering

from .. import workload
from ..bench import Bench
from ..engines.engine import CountAndSum, TypedTable
from ..measure import OURS, Measurement, Target, Timings, check_equal, interleave, p99, ratios, time_query
from .rebuild import count_and_sum

QUERIES, ALL_CUSTOMER_QUERIES = 200, 20
SQL = "SQL"
ODD_EDGE = timedelta(hours=9, minutes=17, seconds=3)
P99_TARGET = Target(2, is_ceiling=True)
ALL_TARGET = Target(1)

Result = TypeVar("Result")


def months(bench: Bench) -> Iterator[Measurement]:
    """Measure the month of one customer and of all customers: a whole month, and one with bounds inside of a minute."""
    with workload.open_ledger(bench.ledger()) as metering, bench.engine.typed_table(bench.ledger()) as plain:
        metering.catch_up()
        for edges, cut in (("", timedelta(0)), (", odd edges", ODD_EDGE)):
            yield from _one_customer(bench, metering, plain, (workload.START + cut, workload.END - cut), edges)
            if not (cut and bench.with_target_only):
                yield _all_customers(
                    metering, plain, (workload.START + cut, workload.END - cut), edges, None if cut else ALL_TARGET
                )
        if not bench.with_target_only:
            yield _days(metering, plain)


def _one_customer(
    bench: Bench, metering: Metering, raw_table: TypedTable, span: tuple[datetime, datetime], edges: str
) -> Iterator[Measurement]:
    label = f"one customer's month{edges}"
    timings = time_queries(
        label,
        {
            OURS: lambda turn: count_and_sum([metering.total(workload.METER, customer(turn), *span)]),
            SQL: lambda turn: [raw_table.total_of(customer(turn), *span)],
        },
        QUERIES,
    )
    target = P99_TARGET if bench.engine.name == "sqlite" else None
    yield slowest(f"{label}, p99", timings, target)
    yield against_sql(label, timings)


def _all_customers(
    metering: Metering, raw_table: TypedTable, span: tuple[datetime, datetime], edges: str, target: Target | None
) -> Measurement:
    label = f"all customers' month{edges}"
    timings = time_queries(
        label,
        {
            OURS: lambda _: count_and_sum(metering.totals(workload.METER, *span)),
            SQL: lambda _: raw_table.totals_by_customer(*span),
        },
        ALL_CUSTOMER_QUERIES,
    )
    return against_sql(label, timings, target)


def _days(metering: Metering, raw_table: TypedTable) -> Measurement:
    def ours(turn: int) -> list[CountAndSum]:
        span = workload.START, workload.END
        days = metering.summaries(workload.METER, customer(turn), *span, window="day")
        return [(f"{day.start:%Y-%m-%d}", day.count, day.sum) for day in days]

    timings = time_queries(
        "days",
        {OURS: ours, SQL: lambda turn: raw_table.totals_by_day(customer(turn), workload.START, workload.END)},
        QUERIES,
    )
    return against_sql("one customer's month by day", timings)


def customer(turn: int) -> str:
    """Return the customer that a turn queries: another one each time."""
    return workload.CUSTOMERS[turn % len(workload.CUSTOMERS)]


def time_queries(label: str, queries: Mapping[str, Callable[[int], Result]], repetitions: int) -> Timings:
    """Return the seconds of each query, after checking that the results are equal. A first turn warms up the caches.

    A query gets the number of the turn.
    """
    results: dict[str, list[Result]] = {name: [] for name in queries}

    def run(name: str) -> float:
        turn = len(results[name])
        return time_query(lambda: queries[name](turn), results[name])

    tasks = {name: partial(run, name) for name in queries}
    interleave(tasks, 1)
    timings = interleave(tasks, repetitions)
    for name in queries:
        check_equal(f"{label}, {name}", results[OURS], results[name])
    return timings


def slowest(label: str, timings: Timings, target: Target | None) -> Measurement:
    """Return the 99th percentile of Tallybook's times, with their median."""
    milliseconds = [seconds * 1_000 for seconds in timings[OURS]]
    figures = {"p50 ms": statistics.median(milliseconds)}
    return Measurement(label, p99(milliseconds), "ms", target, len(milliseconds), figures)


def against_sql(label: str, timings: Timings, target: Target | None = None) -> Measurement:
    """Return the ratio of the times of SQL to Tallybook's, with the 50th and the 99th percentile of both."""
    ratio_values = ratios(timings[OURS], timings[SQL])
    figures = {
        f"{name} {percentile} ms": statistic(seconds) * 1_000
        for percentile, statistic in (("p50", statistics.median), ("p99", p99))
        for name, seconds in timings.items()
    }
    return Measurement(label, statistics.median(ratio_values), "x", target, len(ratio_values), figures)
