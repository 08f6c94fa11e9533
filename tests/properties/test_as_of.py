"""A query as of a position or a time returns the result that it returned then."""

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, Total

from ..sampling import examples
from .histories import BEGINNING, CUSTOMERS, Step, meters_of, open_ledger, run_steps, steps, totals_of
from .naive import HistoryEntry, compute_totals, effective, known_at
from .test_queries import ALL_TIME, RANGES

QueryResults = dict[str, list[Total]]


def query_results(
    metering: Metering, history: list[Step], between: tuple[datetime, datetime], as_of: datetime | int | None
) -> QueryResults:
    """Return the results of every kind of query about the meters of a history."""
    results: QueryResults = {}
    for meter in meters_of(history):
        name = meter.name
        results[name] = [
            *metering.totals(name, *between, as_of=as_of),
            *(metering.total(name, customer, *between, as_of=as_of) for customer in (*CUSTOMERS, None)),
            *metering.summaries(name, None, *between, window="hour", timezone="Asia/Kathmandu", as_of=as_of),
            *metering.summaries(name, None, *between, window="hour", as_of=as_of),
            *metering.summaries(name, "acme", *between, window="day", timezone="Europe/Berlin", as_of=as_of),
            metering.explain(name, None, *between, as_of=as_of).total,
        ]
        if meter.region is not None:
            results[name] += [
                *metering.totals(name, *between, as_of=as_of, group_by=["region"]),
                metering.total(name, "acme", *between, as_of=as_of, where={"region": ["eu", None]}),
                metering.explain(name, None, *between, as_of=as_of, group_by=["region"]).total,
            ]
    return results


@settings(max_examples=examples(25))
@given(steps(max_size=15), RANGES)
def test_as_of_each_position_gives_the_earlier_results(history: list[Step], between: tuple[datetime, datetime]) -> None:
    """Each result while the ledger grew equals the later result as of that position."""
    earlier: dict[int, tuple[QueryResults, list[object]]] = {}
    with open_ledger(meters_of(history)) as (metering, clock):

        def remember(entries: list[HistoryEntry]) -> None:
            listed: list[object] = [event for meter in meters_of(history) for event in metering.events(meter.name)]
            earlier[entries[-1].position] = (query_results(metering, history, between, None), listed)

        run_steps(metering, clock, history, after=remember)
        for position, (results, listed) in earlier.items():
            assert query_results(metering, history, between, position) == results
            results_now: list[object] = [
                event for meter in meters_of(history) for event in metering.events(meter.name, as_of=position)
            ]
            assert results_now == listed


@given(steps(), st.integers(-1, 30))
def test_as_of_a_time_counts_what_was_recorded_by_then(history: list[Step], hours: int) -> None:
    """Events recorded at or before the time count; later cancellations have no effect."""
    with open_ledger(meters_of(history)) as (metering, clock):
        entries = run_steps(metering, clock, history)
        for moment in (BEGINNING + timedelta(hours=hours), clock.now, clock.now - timedelta(microseconds=1)):
            visible = known_at(entries, moment)
            for meter in meters_of(history):
                counted = effective(visible, meter.name, meter.window)
                total = metering.total(meter.name, None, *ALL_TIME, as_of=moment)
                assert totals_of(total) == compute_totals(counted, None, *ALL_TIME, meter.window)


@settings(max_examples=examples(25))
@given(steps())
def test_as_of_the_head_is_now(history: list[Step]) -> None:
    """Results as of the head, which are read from records, equal current results, which are read from buckets."""
    with open_ledger(meters_of(history)) as (metering, clock):
        entries = run_steps(metering, clock, history)
        head = len(meters_of(history)) + len(entries)
        for between in (ALL_TIME, (BEGINNING, BEGINNING + timedelta(hours=30))):
            assert query_results(metering, history, between, head) == query_results(metering, history, between, None)
            assert query_results(metering, history, between, clock.now) == query_results(
                metering, history, between, None
            )
