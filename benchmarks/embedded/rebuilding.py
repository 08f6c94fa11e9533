"""All of the ledger into figures: against the engine's own GROUP BY over the same stored JSON, and against DuckDB's."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from tallybook.application import Total

from .. import usage
from ..bench import Bench
from ..engines.duck import NAME as DUCKDB
from ..engines.duck import duck
from ..engines.engine import Counted, Grouping
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

    groupings = (engine.group_name,) if bench.marked_only else tuple(engine.groupings)
    with ExitStack() as opened:
        works: dict[str, Callable[[], float]] = {OURS: rebuilt, COUNTED: counted_only}
        if not bench.marked_only:
            other = opened.enter_context(duck(engine, url, bench.folder))
            works[DUCKDB] = lambda: answered(other.grouped, answers)
        for name in groupings:
            works[name] = partial(_asked, opened.enter_context(engine.grouping(url, name)), answers)
        took = in_turns(works, bench.turns)
    for answer in answers:
        agree("counts and sums by customer", answer, answers[0])
    agree("events counted", sum(one[1] for one in answers[0]), bench.events)
    marks: tuple[Mark | None, Mark | None] = (REBUILD_MARK, COUNT_MARK)
    beside = ""
    for name in groupings:
        yield compared(f"usage rows and totals{beside}", took, bench.events, marks[0], theirs=name)
        yield compared(f"totals only, from the ledger{beside}", took, bench.events, marks[1], COUNTED, name)
        marks, beside = (None, None), ", beside a quicker GROUP BY"
    if not bench.marked_only:
        yield compared("totals only, beside DuckDB", took, bench.events, ours=COUNTED, theirs=DUCKDB)


def _asked(grouped: Grouping, answers: list[list[Counted]]) -> float:
    return answered(lambda: grouped(0), answers)


def counted(totals: Sequence[Total]) -> list[Counted]:
    """Count and sum of each customer, as the engines tell them."""
    return [(str(total.customer), total.count, total.sum) for total in totals]
