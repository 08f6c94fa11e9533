"""Asking for figures, against SQL over a plain typed table of the same usage with an index that covers it."""

import statistics
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from tallybook.application import Metering

from .. import usage
from ..bench import Bench
from ..engines.engine import Counted, PlainTable
from ..measure import OURS, Mark, Measured, Took, agree, answered, in_turns, p99, ratios
from .rebuilding import counted

ASKS, ASKS_OF_ALL = 200, 20
SQL = "SQL"
ODD = timedelta(hours=9, minutes=17, seconds=3)
P99_MARK = Mark(2, is_ceiling=True)
ALL_MARK = Mark(1)

Question = Callable[[int], list[Counted]]


def months(bench: Bench) -> Iterator[Measured]:
    """One customer's month and all customers'; a whole month, and one with odd edges."""
    with usage.opened(bench.ledger()) as metering, bench.engine.plain_table(bench.ledger()) as plain:
        metering.catch_up()
        for edges, cut in (("", timedelta(0)), (", odd edges", ODD)):
            yield from _one(bench, metering, plain, (usage.START + cut, usage.END - cut), edges)
            if not (cut and bench.marked_only):
                yield _each(metering, plain, (usage.START + cut, usage.END - cut), edges, None if cut else ALL_MARK)
        if not bench.marked_only:
            yield _days(metering, plain)


def _one(
    bench: Bench, metering: Metering, plain: PlainTable, span: tuple[datetime, datetime], edges: str
) -> Iterator[Measured]:
    what = f"one customer's month{edges}"
    took = _asked(
        what,
        lambda turn: counted([metering.total(usage.METER, customer(turn), *span)]),
        lambda turn: [plain.one(customer(turn), *span)],
        ASKS,
    )
    mark = P99_MARK if bench.engine.name == "sqlite" else None
    yield slowest(f"{what}, p99", took, mark)
    yield _against_sql(what, took)


def _each(
    metering: Metering, plain: PlainTable, span: tuple[datetime, datetime], edges: str, mark: Mark | None
) -> Measured:
    what = f"all customers' month{edges}"
    took = _asked(
        what,
        lambda _: counted(metering.totals(usage.METER, *span)),
        lambda _: plain.each(*span),
        ASKS_OF_ALL,
    )
    return _against_sql(what, took, mark)


def _days(metering: Metering, plain: PlainTable) -> Measured:
    def ours(turn: int) -> list[Counted]:
        span = usage.START, usage.END
        days = metering.summaries(usage.METER, customer(turn), *span, window="day")
        return [(f"{day.start:%Y-%m-%d}", day.count, day.sum) for day in days]

    took = _asked("days", ours, lambda turn: plain.days(customer(turn), usage.START, usage.END), ASKS)
    return _against_sql("one customer's month by day", took)


def customer(turn: int) -> str:
    """Whom a turn asks for: another one each time."""
    return usage.CUSTOMERS[turn % len(usage.CUSTOMERS)]


def _asked(what: str, ours: Question, theirs: Question, times: int) -> Took:
    """The seconds of each answer; all of them are the same. The first ones, for warm caches, aren't measured."""
    answers: dict[str, list[list[Counted]]] = {OURS: [], SQL: []}

    def ask(name: str, question: Question) -> float:
        turn = len(answers[name])
        return answered(lambda: question(turn), answers[name])

    works = {OURS: lambda: ask(OURS, ours), SQL: lambda: ask(SQL, theirs)}
    in_turns(works, 1)
    took = in_turns(works, times)
    agree(what, answers[OURS], answers[SQL])
    return took


def slowest(what: str, took: Took, mark: Mark | None) -> Measured:
    """The 99th percentile of ours, and what it is the end of."""
    milliseconds = [each * 1_000 for each in took[OURS]]
    figures = {"p50 ms": statistics.median(milliseconds)}
    return Measured(what, p99(milliseconds), "ms", mark, len(milliseconds), figures)


def _against_sql(what: str, took: Took, mark: Mark | None = None) -> Measured:
    each = ratios(took[OURS], took[SQL])
    figures = {
        f"{name} {shown} ms": figure(seconds) * 1_000
        for shown, figure in (("p50", statistics.median), ("p99", p99))
        for name, seconds in took.items()
    }
    return Measured(what, statistics.median(each), "x", mark, len(each), figures)
