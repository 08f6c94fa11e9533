"""In any history, totals by dimension values and of some values only equal the naive model."""

from datetime import datetime
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Total

from ..sampling import examples
from .histories import (
    BEGINNING,
    CUSTOMERS,
    FORMULAS,
    REGIONS,
    WINDOWS,
    MeterRules,
    Step,
    catch_up_every,
    meters_of,
    open_ledger,
    run_steps,
    steps,
    totals_of,
)
from .naive import HistoryEntry, ReferenceTotals, compute_quantity, compute_totals, effective, entries_between
from .test_queries import ALL_TIME, CATCH_UP_INTERVALS, RANGES

REGIONAL_METERS = st.builds(
    MeterRules,
    st.sampled_from(FORMULAS),
    st.sampled_from(WINDOWS),
    st.sampled_from(["region", "region?"]),
    st.booleans(),
    st.sampled_from([None, None, "1/3", "1000"]),
)
HISTORIES = steps(allowed_meters=REGIONAL_METERS)
SELECTIONS = st.one_of(
    st.sampled_from([*REGIONS, "asia", None]).map(lambda region: [region]),
    st.lists(st.sampled_from([*REGIONS, "asia", None]), min_size=1, max_size=4),
)

GroupTotals = dict[str | None, tuple[ReferenceTotals, Fraction]]
"""The totals and the quantity of each region with counted events."""


def groups_of(total: Total) -> GroupTotals:
    """Return the groups of a total by their region."""
    assert all(list(group.dimensions) == ["region"] and not group.groups for group in total.groups)
    return {group.dimensions["region"]: (totals_of(group), Fraction(group.value)) for group in total.groups}


def expected_groups(
    counted: list[HistoryEntry], meter: MeterRules, customer: str | None, between: tuple[datetime, datetime]
) -> GroupTotals:
    """Return the groups by the naive model."""
    in_range = entries_between(counted, customer, *between, meter.window)
    by_region = {
        region: [entry for entry in in_range if entry.dimensions == (region,)]
        for region in {entry.dimensions[0] for entry in in_range}
    }
    return {
        region: (
            compute_totals(entries, customer, *between, meter.window),
            compute_quantity(meter.formula, entries, meter.multiplier),
        )
        for region, entries in by_region.items()
    }


@given(HISTORIES, RANGES, CATCH_UP_INTERVALS)
def test_groups_equal_the_reference_model(
    history: list[Step], between: tuple[datetime, datetime], interval: int
) -> None:
    """Of one customer, of all, and of each window; those of sum and count add up to the total."""
    with open_ledger(meters_of(history)) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        for meter in meters_of(history):
            counted = effective(entries, meter.name, meter.window)
            for bounds in (between, ALL_TIME):
                for customer in (*CUSTOMERS, None):
                    total = metering.total(meter.name, customer, *bounds, group_by=["region"])
                    assert groups_of(total) == expected_groups(counted, meter, customer, bounds)
                    check_sums(total, meter)
                for total in metering.totals(meter.name, *bounds, group_by=["region"]):
                    assert groups_of(total) == expected_groups(counted, meter, total.customer, bounds)
            summaries = metering.summaries(meter.name, None, *between, window="hour", group_by=["region"])
            for summary in summaries:
                assert groups_of(summary) == expected_groups(counted, meter, None, (summary.start, summary.end))
                check_sums(summary, meter)


def check_sums(total: Total, meter: MeterRules) -> None:
    """Check that groups have all events of the total, and that quantities that can be added up do so."""
    assert sum(group.count for group in total.groups) == total.count
    assert sum(Fraction(group.sum) for group in total.groups) == Fraction(total.sum)
    if meter.formula in ("sum", "count") and meter.multiplier != "1/3":  # thirds are rounded in each group
        assert sum(Fraction(group.value) for group in total.groups) == Fraction(total.value)
    assert min((group.min for group in total.groups if group.min is not None), default=None) == total.min
    assert max((group.max for group in total.groups if group.max is not None), default=None) == total.max
    regions = [group.dimensions["region"] for group in total.groups]
    assert regions == sorted(regions, key=lambda region: (region is not None, region))


@given(HISTORIES, RANGES, SELECTIONS, CATCH_UP_INTERVALS)
def test_selected_usage_equals_the_reference_model(
    history: list[Step], between: tuple[datetime, datetime], regions: list[str | None], interval: int
) -> None:
    """Totals, explanations and lists of events have the events of the selected regions and no others."""
    with open_ledger(meters_of(history)) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        for meter in meters_of(history):
            where = {"region": regions[0] if len(regions) == 1 else regions}
            in_regions = [entry for entry in entries if entry.cancels or entry.dimensions[0] in regions]
            counted = effective(in_regions, meter.name, meter.window)
            for customer in (*CUSTOMERS, None):
                explanation = metering.explain(meter.name, customer, *between, where=where)
                total = metering.total(meter.name, customer, *between, where=where)
                assert explanation.total == total
                assert totals_of(total) == compute_totals(counted, customer, *between, meter.window)
                selected = entries_between(counted, customer, *between, meter.window)
                assert Fraction(total.value) == compute_quantity(meter.formula, selected, meter.multiplier)
                assert sum(Fraction(event.contribution) for event in explanation.events) == Fraction(total.value)
                assert {event.dimensions["region"] for event in explanation.events} <= set(regions)
            listed = {event.identifier for event in metering.events(meter.name, where=where)}
            assert listed == {
                entry.identifier for entry in in_regions if entry.meter == meter.name and not entry.cancels
            }


@settings(max_examples=examples(25))
@given(HISTORIES, RANGES, st.sets(st.integers(0, 30), max_size=3))
def test_groups_as_of_a_position_equal_the_reference_model(
    history: list[Step], between: tuple[datetime, datetime], steps_back: set[int]
) -> None:
    """Whatever was recorded and cancelled since."""
    with open_ledger(meters_of(history)) as (metering, clock):
        entries = run_steps(metering, clock, history)
        head = metering.catch_up()
        for position in {max(0, head - back) for back in steps_back}:
            known = [entry for entry in entries if entry.position <= position]
            for meter in meters_of(history):
                counted = effective(known, meter.name, meter.window)
                for bounds in (between, (BEGINNING, ALL_TIME[1])):
                    total = metering.total(meter.name, None, *bounds, as_of=position, group_by=["region"])
                    assert groups_of(total) == expected_groups(counted, meter, None, bounds)
