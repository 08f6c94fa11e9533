"""Compares the results of SQL documents with those of the ledger."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any

from tallybook.application import Metering, TallybookError, Total
from tallybook.application.archive.sql.document import SqlDocument
from tallybook.domain.closed_period import ClosedPeriod

from .engines import Row, SqlEngine, stored_events
from .histories import PLAN, REGION, Query

Rows = list[tuple[object, ...]]


def compare(metering: Metering, queries: Sequence[Query], engines: Sequence[SqlEngine]) -> Counter[str]:
    """Compare the totals of queries, and all closed periods. Returns how many numbers were equal, by kind."""
    counts: Counter[str] = Counter()
    events = stored_events(metering)
    counts.update(features(metering))
    for engine in engines:
        engine.load(events)
        for query in queries:
            for document, expected in _totals(metering, query, engine):
                actual = decimal_rows(engine.run(document.statement))
                assert actual == expected, f"{engine.dialect}:\n{document.text}"
                counts[f"{engine.dialect} statements"] += 1
                counts[f"{engine.dialect} numbers"] += sum(map(len, expected))
        for document, period in _closed(metering, engine):
            actual = decimal_rows(engine.run(document.statement))
            assert actual[0][:5] == frozen_row(period), f"{engine.dialect}:\n{document.text}"
            counts[f"{engine.dialect} closed periods"] += 1
        for lines, digest in _digests(metering, queries, engine):
            text = "".join(f"{line}\n" for (line,) in engine.run(lines.statement))
            assert sha256(text.encode()).hexdigest() == digest, f"{engine.dialect}:\n{lines.text}"
            counts[f"{engine.dialect} digests"] += 1
    return counts


def _totals(metering: Metering, query: Query, engine: SqlEngine) -> Iterator[tuple[SqlDocument, Rows]]:
    """Yield documents and the rows that they must have; none if the ledger rejects the query."""
    as_of = int(metering.catch_up() * query.known)
    try:
        rules = metering.meters.get(query.meter, as_of=as_of)
        keys = (*rules.dimension_keys, *rules.optional_dimension_keys)
        where = {key: values for key, values in _WHERE.items() if key in keys} if query.where else {}
        arguments: dict[str, Any] = {"as_of": as_of, "where": where, "group_by": keys if query.group_by else ()}
        totals = metering.totals(query.meter, *query.bounds, **arguments)
    except TallybookError:
        return
    document = metering.sql.totals(query.meter, *query.bounds, dialect=engine.dialect, **arguments)
    yield document, total_rows(totals)
    total = metering.total(query.meter, None, *query.bounds, **arguments)
    document = metering.sql.total(query.meter, None, *query.bounds, dialect=engine.dialect, **arguments)
    yield document, list(_rows(total, ())) if total.groups or not arguments["group_by"] else []


_WHERE: Mapping[str, Sequence[str | None]] = {REGION: ["eu", "u's"], PLAN: ["p'ro", None]}


def _closed(metering: Metering, engine: SqlEngine) -> Iterator[tuple[SqlDocument, ClosedPeriod]]:
    for meter in metering.meters.list():
        for period in metering.periods.list(meter.event_name):
            document = metering.sql.total(
                meter.event_name, period.customer, period.start, period.end, dialect=engine.dialect, closed=True
            )
            yield document, period


def _digests(metering: Metering, queries: Sequence[Query], engine: SqlEngine) -> Iterator[tuple[SqlDocument, str]]:
    """Yield the lines and the digest of the explanation of each query, and of each closed period."""
    for query in queries:
        as_of = int(metering.catch_up() * query.known)
        try:
            digest = metering.explain(query.meter, None, *query.bounds, as_of=as_of).digest
        except TallybookError:
            continue
        yield metering.sql.digest_lines(query.meter, None, *query.bounds, dialect=engine.dialect, as_of=as_of), digest
    for meter in metering.meters.list():
        for period in metering.periods.list(meter.event_name):
            arguments = meter.event_name, period.customer, period.start, period.end
            yield metering.sql.digest_lines(*arguments, dialect=engine.dialect, closed=True), period.digest


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
    return period.quantity, period.billable, period.sum, period.count, period.last


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
