"""Explaining and looking back: of a period with 1,000 events, whose answer follows from the usage itself."""

import statistics
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from tallybook.application import Metering

from .. import usage
from ..bench import Bench
from ..measure import OURS, Mark, Measured, agree, answered, in_turns, p99

ASKS = 50
MARK = Mark(20, is_ceiling=True)
PERIOD = (usage.METER, usage.SELDOM, usage.START, usage.END)

Answer = TypeVar("Answer")
AsOf = int | datetime | None


def explain(bench: Bench) -> Iterator[Measured]:
    """Every event behind a figure; and the figure as of a position and of a moment."""
    uses = usage.of_seldom(bench.events)
    earlier = uses[: len(uses) // 2]
    head, many = usage.position(earlier[-1][0]), f"{len(uses):,} events"
    with usage.opened(bench.ledger()) as metering:
        metering.catch_up()
        yield _measured(f"explain, {many}", lambda: _explained(metering, None), _named(uses))
        yield _measured(f"explain as of a position, {many}", lambda: _explained(metering, head), _named(earlier))
        yield _measured(f"total as of a position, {many}", lambda: _figure(metering, head), _summed(earlier))
        yield _measured(f"total as of a moment, {many}", lambda: _figure(metering, usage.RECORDED_AT), _summed(uses))


def _measured(what: str, ask: Callable[[], Answer], expected: Answer) -> Measured:
    def asked() -> float:
        answers: list[Answer] = []
        took = answered(ask, answers)
        agree(what, answers, [expected])
        return took

    asked()  # for warm caches
    milliseconds = [each * 1_000 for each in in_turns({OURS: asked}, ASKS)[OURS]]
    figures = {"p99 ms": p99(milliseconds)}
    return Measured(what, statistics.median(milliseconds), "ms", MARK, len(milliseconds), figures)


def _explained(metering: Metering, as_of: AsOf) -> list[tuple[str, Decimal]]:
    explanation = metering.explain(*PERIOD, as_of=as_of)
    return [(event.identifier, event.contribution) for event in explanation.events]


def _figure(metering: Metering, as_of: AsOf) -> tuple[int, Decimal]:
    total = metering.total(*PERIOD, as_of=as_of)
    return total.count, total.value


def _named(uses: list[tuple[int, Decimal]]) -> list[tuple[str, Decimal]]:
    return [(usage.identifier(number), tokens) for number, tokens in uses]


def _summed(uses: list[tuple[int, Decimal]]) -> tuple[int, Decimal]:
    return len(uses), sum((tokens for _, tokens in uses), Decimal(0))
