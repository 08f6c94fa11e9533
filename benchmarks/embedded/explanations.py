"""Explanations and totals as of a position or a time, for a period of 1,000 events.

The expected results are computed from the workload.
"""

import statistics
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from tallybook.application import Metering

from .. import workload
from ..bench import Bench
from ..measure import OURS, Measurement, Target, check_equal, interleave, p99, time_query

QUERIES = 50
TARGET = Target(20, is_ceiling=True)
PERIOD = (workload.METER, workload.LOW_VOLUME_CUSTOMER, workload.START, workload.END)

Result = TypeVar("Result")
AsOf = int | datetime | None


def explain(bench: Bench) -> Iterator[Measurement]:
    """Measure the explanation of a total, and the total as of a position and as of a time."""
    meter_events = workload.low_volume_events(bench.events)
    earlier = meter_events[: len(meter_events) // 2]
    head, event_count = workload.position(earlier[-1][0]), f"{len(meter_events):,} events"
    with workload.open_ledger(bench.ledger()) as metering:
        metering.catch_up()
        yield _measure(f"explain, {event_count}", lambda: _explain(metering, None), _by_identifier(meter_events))
        yield _measure(
            f"explain as of a position, {event_count}", lambda: _explain(metering, head), _by_identifier(earlier)
        )
        yield _measure(
            f"total as of a position, {event_count}", lambda: _total(metering, head), _count_and_sum(earlier)
        )
        yield _measure(
            f"total as of a time, {event_count}",
            lambda: _total(metering, workload.RECORDED_AT),
            _count_and_sum(meter_events),
        )


def _measure(name: str, query: Callable[[], Result], expected: Result) -> Measurement:
    def run() -> float:
        results: list[Result] = []
        elapsed = time_query(query, results)
        check_equal(name, results, [expected])
        return elapsed

    run()  # warms up the caches
    milliseconds = [seconds * 1_000 for seconds in interleave({OURS: run}, QUERIES)[OURS]]
    figures = {"p99 ms": p99(milliseconds)}
    return Measurement(name, statistics.median(milliseconds), "ms", TARGET, len(milliseconds), figures)


def _explain(metering: Metering, as_of: AsOf) -> list[tuple[str, Decimal]]:
    explanation = metering.explain(*PERIOD, as_of=as_of)
    return [(event.identifier, event.contribution) for event in explanation.events]


def _total(metering: Metering, as_of: AsOf) -> tuple[int, Decimal]:
    total = metering.total(*PERIOD, as_of=as_of)
    return total.count, total.value


def _by_identifier(meter_events: list[tuple[int, Decimal]]) -> list[tuple[str, Decimal]]:
    return [(workload.identifier(number), tokens) for number, tokens in meter_events]


def _count_and_sum(meter_events: list[tuple[int, Decimal]]) -> tuple[int, Decimal]:
    return len(meter_events), sum((tokens for _, tokens in meter_events), Decimal(0))
