"""A grouped month of all customers, compared with SQL's GROUP BY on a typed table that has a covering index."""

import statistics
from collections.abc import Iterator
from dataclasses import replace

from tallybook.application import Metering

from .. import dimension_workload, workload
from ..bench import LARGE_EVENT_COUNT, Bench
from ..engines.engine import BY_GROUP, BY_TIME, GroupTotal
from ..measure import OURS, Measurement
from .queries import ALL_TARGET, SQL, against_sql, time_queries

SHORT_EVENT_COUNT = 50_000
EVENTS_PER_CUSTOMER, MODELS = 1_000, 20
GROUP_BY = ("model",)
MONTH = (workload.START, workload.END)
LABEL = "all customers' month by model"


def groups(bench: Bench) -> Iterator[Measurement]:
    """Measure the month of all customers by model: 1,000 customers and 20 models at a million events, the maximum."""
    if bench.events > LARGE_EVENT_COUNT:
        return
    events = bench.at_most(SHORT_EVENT_COUNT, LARGE_EVENT_COUNT)
    url = bench.engine.new_url()
    with workload.open_ledger(url, GROUP_BY) as metering:
        for batch in dimension_workload.batches(events, events // EVENTS_PER_CUSTOMER, MODELS):
            metering.record_many(batch)
        metering.catch_up()
        bench.engine.settle(url)
        with (
            bench.engine.typed_table(url, BY_TIME) as by_time,
            bench.engine.typed_table(url, BY_GROUP) as by_group,
        ):
            timings = time_queries(
                LABEL,
                {
                    "SQL by time": lambda _: by_time.totals_by_group(*MONTH),
                    "SQL by group": lambda _: by_group.totals_by_group(*MONTH),
                    OURS: lambda _: _totals_by_group(metering),
                },
                bench.turns,
            )
    bench.engine.delete(url)
    ours = timings.pop(OURS)
    fastest = min(timings, key=lambda name: statistics.median(timings[name]))
    measurement = against_sql(LABEL, {OURS: ours, SQL: timings[fastest]}, ALL_TARGET)
    others = {f"{name} p50 ms": statistics.median(timings[name]) * 1_000 for name in timings}
    yield replace(measurement, figures={**measurement.figures, **others})


def _totals_by_group(metering: Metering) -> list[GroupTotal]:
    return [
        (str(total.customer), str(group.dimensions["model"]), group.count, group.sum)
        for total in metering.totals(workload.METER, *MONTH, group_by=GROUP_BY)
        for group in total.groups
    ]
