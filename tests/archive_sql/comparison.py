"""Compares the results of SQL documents with those of the ledger."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from hashlib import sha256
from typing import Any

from tallybook.application import Metering, TallybookError, Total
from tallybook.application.archive.sql.dialects import DialectName
from tallybook.application.archive.sql.document import SqlDocument
from tallybook.domain.closed_period import ClosedPeriod

from .engines import Row, SqlEngine, stored_events
from .histories import PLAN, REGION, Answer, Query

Rows = list[tuple[object, ...]]


@dataclass(frozen=True)
class Question:
    """What is asked of an engine: a document for each dialect, and the result of the ledger."""

    kind: str
    document: Callable[[DialectName], SqlDocument]
    result_of: Callable[[Sequence[Row]], object]
    """Returns the result of an engine from the rows of its statement."""
    expected: object
    numbers: int = 0


def compare(metering: Metering, queries: Sequence[Query], engines: Sequence[SqlEngine]) -> Counter[str]:
    """Compare the results of queries and all closed periods. Returns how many were equal, by kind."""
    counts: Counter[str] = Counter()
    events = stored_events(metering)
    questions = [*_questions(metering, queries), *_closed(metering)]
    for engine in engines:
        engine.load(events)
        for question in questions:
            document = question.document(engine.dialect)
            actual = question.result_of(engine.run(document.statement))
            assert actual == question.expected, f"{engine.dialect}:\n{document.text}"
            counts[f"{engine.dialect} {question.kind}"] += 1
            counts[f"{engine.dialect} numbers"] += question.numbers
    return counts


def _questions(metering: Metering, queries: Sequence[Query]) -> Iterator[Question]:
    """Yield the questions of the queries that the ledger doesn't reject."""
    for query in queries:
        as_of = int(metering.catch_up() * query.known)
        with suppress(TallybookError):
            rules = metering.meters.get(query.meter, as_of=as_of)
            keys = (*rules.dimension_keys, *rules.optional_dimension_keys)
            where = {key: values for key, values in WHERE.items() if key in keys} if query.where else {}
            yield _question(metering, query, as_of, where, keys if query.group_by else ())


def _question(
    metering: Metering,
    query: Query,
    as_of: int,
    where: Mapping[str, Sequence[str | None]],
    group_by: Sequence[str],
) -> Question:
    arguments: dict[str, Any] = {"as_of": as_of, "where": where}
    usage = (query.meter, *query.bounds)
    usage_of_all = (query.meter, None, *query.bounds)
    match query.answer:
        case Answer.TOTALS:
            arguments["group_by"] = group_by
            rows = total_rows(metering.totals(*usage, **arguments))
            return _rows_question("totals", partial(metering.sql.totals, *usage, **arguments), rows)
        case Answer.TOTAL:
            arguments["group_by"] = group_by
            total = metering.total(*usage_of_all, **arguments)
            rows = list(_rows(total, ())) if total.groups or not group_by else []
            return _rows_question("totals of all", partial(metering.sql.total, *usage_of_all, **arguments), rows)
        case Answer.DIGEST:
            digest = metering.explain(*usage_of_all, **arguments).digest
            return _digest_question("digests", partial(metering.sql.digest_lines, *usage_of_all, **arguments), digest)


def _closed(metering: Metering) -> Iterator[Question]:
    """Yield questions of the closed periods: the frozen total of each second one, and the digests of the others."""
    periods = [period for meter in metering.meters.list() for period in metering.periods.list(meter.event_name)]
    for number, period in enumerate(periods):
        usage = period.event_name, period.customer, period.start, period.end
        if number % 2:
            document = partial(metering.sql.total, *usage, closed=True)
            yield Question("frozen totals", _by_dialect(document), _frozen_part, [frozen_row(period)], len(_FROZEN))
        else:
            document = partial(metering.sql.digest_lines, *usage, closed=True)
            yield _digest_question("frozen digests", document, period.digest)


def _rows_question(kind: str, document: Callable[..., SqlDocument], rows: Rows) -> Question:
    return Question(kind, _by_dialect(document), decimal_rows, rows, sum(map(len, rows)))


def _digest_question(kind: str, document: Callable[..., SqlDocument], digest: str) -> Question:
    return Question(kind, _by_dialect(document), _digest_of, digest)


def _by_dialect(document: Callable[..., SqlDocument]) -> Callable[[DialectName], SqlDocument]:
    return lambda dialect: document(dialect=dialect)


def _digest_of(rows: Sequence[Row]) -> str:
    return sha256("".join(f"{line}\n" for (line,) in rows).encode()).hexdigest()


def _frozen_part(rows: Sequence[Row]) -> Rows:
    return [row[: len(_FROZEN)] for row in decimal_rows(rows)]


WHERE: Mapping[str, Sequence[str | None]] = {REGION: ["eu", "u's"], PLAN: ["p'ro", None]}
_FROZEN = ("quantity", "billable", "sum", "count", "last")
"""What a closed period has of its total, in the order of the columns."""


def total_rows(totals: Iterable[Total]) -> Rows:
    """Return the rows that SQL has for the totals of each customer."""
    return [row for total in totals for row in _rows(total, (total.customer,))]


def _rows(total: Total, customer: tuple[str | None, ...]) -> Iterator[tuple[object, ...]]:
    """Yield the row of a total, or the rows of its groups."""
    for part in total.groups or (total,):
        numbers = (part.value, part.billable, part.sum, part.count, part.last, part.min, part.max)
        yield (*customer, *part.dimensions.values(), *numbers)


def frozen_row(period: ClosedPeriod) -> tuple[object, ...]:
    """Return the first columns of the row of a closed period."""
    return tuple(getattr(period, name) for name in _FROZEN)


def decimal_rows(rows: Iterable[Row]) -> Rows:
    """Return rows of which the last seven columns are numbers."""
    return [(*row[:-7], *(None if number is None else Decimal(number) for number in row[-7:])) for row in rows]


def features(metering: Metering) -> Iterator[str]:
    """Yield what a history has."""
    for meter in metering.meters.list():
        history = metering.meters.history(meter.event_name)
        yield f"formula {meter.formula}"
        yield f"window {meter.event_time_window}"
        yield from (verdict.value for verdict in {event.verdict for event in metering.events(meter.event_name)})
        for name in ("filter", "multiplier", "rounding", "source", "dimension_keys", "optional_dimension_keys"):
            if getattr(meter, name):
                yield name
        if len(history) > 1:
            yield "changed rules"
        if any(revision.effective_from is not None for revision in history):
            yield "dated rules"
        if any(event.revoked for event in metering.events(meter.event_name)):
            yield "revoked cancellation"
        if metering.periods.list(meter.event_name):
            yield "closed period"
