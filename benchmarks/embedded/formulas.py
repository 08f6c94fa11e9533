"""The month under each formula, compared with SQL on a typed table of the same usage that has a covering index."""

from collections.abc import Iterator

from tallybook.application import Formula, Metering

from .. import workload
from ..bench import LARGE_EVENT_COUNT, Bench
from ..engines.engine import Quantity, TypedTable
from ..measure import OURS, Measurement
from .queries import SQL, against_sql, customer, time_queries

SHORT_EVENT_COUNT = 20_000
QUERIES = 50
MONTH = (workload.START, workload.END)


def formulas(bench: Bench) -> Iterator[Measurement]:
    """Measure the month of one customer and of all customers under each formula. Skipped above a million events.

    The rules of one meter change from formula to formula, so that all of them count the same events.
    """
    if bench.events > LARGE_EVENT_COUNT:
        return
    url = bench.engine.new_url()
    with workload.open_ledger(url) as metering:
        for batch in workload.batches(bench.at_most(SHORT_EVENT_COUNT, LARGE_EVENT_COUNT)):
            metering.record_many(batch)
        bench.engine.settle(url)
        with bench.engine.typed_table(url) as typed_table:
            for formula in Formula:
                if metering.meters.get(workload.METER).formula is not formula:
                    metering.rules.change(workload.METER, {"formula": formula}, reason="measure")
                metering.catch_up()
                yield from _measure(bench, metering, typed_table, formula)
    bench.engine.delete(url)


def _measure(bench: Bench, metering: Metering, typed_table: TypedTable, formula: Formula) -> Iterator[Measurement]:
    label = f"{formula}, one customer's month"
    timings = time_queries(
        label,
        {
            OURS: lambda turn: _total(metering, customer(turn)),
            SQL: lambda turn: typed_table.quantities(formula, customer(turn), *MONTH),
        },
        QUERIES,
    )
    yield against_sql(label, timings)
    label = f"{formula}, all customers' month"
    timings = time_queries(
        label,
        {OURS: lambda _: _totals(metering), SQL: lambda _: typed_table.quantities(formula, None, *MONTH)},
        bench.turns,
    )
    yield against_sql(label, timings)


def _total(metering: Metering, name: str) -> list[Quantity]:
    total = metering.total(workload.METER, name, *MONTH)
    return [(name, total.value)] if total.count else []


def _totals(metering: Metering) -> list[Quantity]:
    return [(str(total.customer), total.value) for total in metering.totals(workload.METER, *MONTH)]
