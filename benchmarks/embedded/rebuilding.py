"""All of the ledger into figures: against the engine's own GROUP BY over the same stored JSON, and against DuckDB's."""

from collections.abc import Iterator, Sequence

from tallybook.application import Total

from .. import usage
from ..bench import Bench
from ..engines.duck import NAME as DUCKDB
from ..engines.duck import duck
from ..engines.engine import Counted
from ..measure import OURS, Mark, Measured, agree, answered, compared, in_turns, seconds

REBUILD_MARK, COUNT_MARK = Mark(1), Mark(2)
COUNTED = "counted"


def rebuild(bench: Bench) -> Iterator[Measured]:
    """The read models made anew after they were deleted, and totals without read models; from the same turns."""
    url, engine = bench.ledger(), bench.engine
    answers: list[list[Counted]] = []

    def rebuilt() -> float:
        engine.delete_views(url)
        with usage.opened(url) as metering:
            took = seconds(metering.catch_up)
            answers.append(counted(metering.totals(usage.METER, usage.START, usage.END)))
        return took

    def counted_only() -> float:
        with usage.opened(url) as metering:
            return answered(lambda: counted(metering.totals_from_ledger(usage.METER, usage.START, usage.END)), answers)

    with duck(engine, url, bench.folder) as other, engine.grouping(url) as grouped:
        took = in_turns(
            {
                OURS: rebuilt,
                COUNTED: counted_only,
                DUCKDB: lambda: answered(other.grouped, answers),
                engine.group_name: lambda: answered(lambda: grouped(0), answers),
            },
            bench.turns,
        )
    for answer in answers:
        agree("counts and sums by customer", answer, answers[0])
    agree("events counted", sum(one[1] for one in answers[0]), bench.events)
    yield compared("usage rows and totals", took, bench.events, REBUILD_MARK)
    yield compared("totals only, from the ledger", took, bench.events, COUNT_MARK, ours=COUNTED)
    yield compared("totals only, beside DuckDB", took, bench.events, ours=COUNTED, theirs=DUCKDB)


def counted(totals: Sequence[Total]) -> list[Counted]:
    """Count and sum of each customer, as the engines tell them."""
    return [(str(total.customer), total.count, total.sum) for total in totals]
