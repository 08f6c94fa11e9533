"""A quota check: record a meter event, then read the total of its customer."""

import statistics
from collections.abc import Iterator, Mapping
from datetime import timedelta

from .. import workload
from ..bench import Bench
from ..engines.engine import CountAndSum
from ..measure import OURS, Measurement, Target
from .queries import SQL, against_sql, customer, time_queries
from .rebuild import count_and_sum

SHORT_EVENTS, LONG_EVENTS = 20_000, 100_000
MEDIAN_MS: Mapping[str, Target] = {"sqlite": Target(1, is_ceiling=True), "postgresql": Target(5, is_ceiling=True)}
CHECKS = 100
LABEL = "record, then total"


def quota(bench: Bench) -> Iterator[Measurement]:
    """Measure the check of another customer each time, next to INSERT and SELECT on a typed table."""
    url, _ = bench.recorded(bench.at_most(SHORT_EVENTS, LONG_EVENTS))
    span = workload.START, workload.END
    with workload.open_ledger(url) as metering, bench.engine.typed_table(url) as raw_table:
        metering.catch_up()

        def ours(turn: int) -> list[CountAndSum]:
            payload = {"customer": customer(turn), "tokens": str(workload.tokens(turn))}
            at = workload.START + timedelta(seconds=turn)
            metering.record(workload.METER, payload, identifier=f"quota-{turn}", timestamp=at)
            return count_and_sum([metering.total(workload.METER, customer(turn), *span)])

        def theirs(turn: int) -> list[CountAndSum]:
            raw_table.insert(customer(turn), workload.START + timedelta(seconds=turn), workload.tokens(turn))
            return [raw_table.total_of(customer(turn), *span)]

        timings = time_queries(LABEL, {OURS: ours, SQL: theirs}, CHECKS)
    bench.engine.delete(url)
    milliseconds = {name: statistics.median(seconds) * 1_000 for name, seconds in timings.items()}
    target, figures = MEDIAN_MS[bench.engine.name], {"SQL ms": milliseconds[SQL]}
    yield Measurement(f"{LABEL}, median", milliseconds[OURS], "ms", target, CHECKS, figures)
    yield against_sql(LABEL, timings)
