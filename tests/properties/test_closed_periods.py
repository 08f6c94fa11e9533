"""In any history, frozen totals never change and adjustments are exact."""

from datetime import datetime
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Adjustment, ClosedPeriod

from ..sampling import examples
from .coverage import first_examples, search, stop_if_covered
from .period_histories import (
    CANCELS,
    NAMES,
    RECORDS,
    RULES,
    TILES,
    TIME_RANGE,
    ZONES,
    ClosedRecord,
    ReferenceLedger,
    Rules,
    Step,
    expected_groups,
    expected_total,
    expected_verdicts,
    histories,
    open_reference,
    run_steps,
)


@settings(max_examples=examples(50))
@given(RULES, histories())
def test_frozen_totals_stay_and_adjustments_equal_the_reference_model(rules: Rules, history: list[Step]) -> None:
    """For each closed period: the quantity, the difference, every event that caused it, and the rules difference."""
    with open_reference(rules) as reference:
        run_steps(reference, history)
        closed = reference.metering.periods.list("calls")
        in_order = sorted(reference.closed, key=lambda record: (record.customer, record.bounds))
        assert closed == [record.result for record in in_order]
        adjustments = {
            (adjustment.period.customer, adjustment.period.start): adjustment
            for adjustment in reference.metering.periods.adjustments("calls", group_by=rules.group_by)
            if not adjustment.is_late  # see test_completeness.py
        }
        for record in in_order:
            check(reference, record, adjustments.pop((record.customer, record.bounds[0]), None))
            assert (
                reference.metering.periods.close("calls", record.customer, *record.bounds, allow_empty=True)
                == record.result
            )
        assert adjustments == {}


def check(reference: ReferenceLedger, closed_record: ClosedRecord, adjustment: Adjustment | None) -> None:
    """Check the adjustment of a closed period."""
    query = closed_record.rules, closed_record.customer, closed_record.counted_range
    before, now = (
        expected_verdicts(reference.events[: closed_record.known_position], *query),
        expected_verdicts(reference.events, *query),
    )
    touched = {name: stood for name, stood in now.items() if before.get(name) != stood}
    expected = expected_total(reference.events, *query, whole_windows=False)
    by_rules = Fraction(0)
    if reference.rules != closed_record.rules:
        by_rules = expected_total(reference.events, reference.rules, *query[1:], whole_windows=False) - expected
    if adjustment is None:
        assert (touched, by_rules) == ({}, 0)
        return
    assert (adjustment.period, adjustment.position) == (closed_record.result, reference.metering.catch_up())
    assert Fraction(adjustment.quantity) == expected
    assert Fraction(adjustment.billable) == max(expected, 0)
    assert Fraction(adjustment.difference) == expected - Fraction(closed_record.result.quantity)
    assert Fraction(adjustment.difference) == sum(Fraction(event.change) for event in adjustment.events)
    assert Fraction(adjustment.billable_difference) == max(expected, 0) - Fraction(closed_record.result.billable)
    assert Fraction(adjustment.rules_difference) == by_rules
    check_groups(reference, closed_record, adjustment)
    assert {adjusting_event.identifier for adjusting_event in adjustment.events} == set(touched)
    assert [(adjusting_event.occurred_at, adjusting_event.position) for adjusting_event in adjustment.events] == sorted(
        (adjusting_event.occurred_at, adjusting_event.position) for adjusting_event in adjustment.events
    )
    for event in adjustment.events:
        verdict, adds = before.get(event.identifier, (None, Fraction(0)))
        assert event.before == verdict
        assert (event.verdict, Fraction(event.change)) == (now[event.identifier][0], now[event.identifier][1] - adds)


def check_groups(reference: ReferenceLedger, closed_record: ClosedRecord, adjustment: Adjustment) -> None:
    """Check the part of each region in an adjustment: its quantity now, and the difference since the closing."""
    query = closed_record.rules, closed_record.customer, closed_record.counted_range
    before = expected_groups(reference.events[: closed_record.known_position], *query)
    now = expected_groups(reference.events, *query)
    expected = {
        region: (now.get(region, Fraction(0)), now.get(region, Fraction(0)) - before.get(region, Fraction(0)))
        for region in before.keys() | now.keys()
    }
    assert {
        group.dimensions["region"]: (Fraction(group.quantity), Fraction(group.difference))
        for group in adjustment.groups
    } == expected


QueryResults = tuple[list[ClosedPeriod], list[Adjustment], list[Adjustment]]


def query_results(reference: ReferenceLedger, as_of: int | datetime | None) -> QueryResults:
    """Return the results of all queries about closed periods."""
    return (
        reference.metering.periods.list("calls", reopened=True, as_of=as_of),
        reference.metering.periods.adjustments("calls", as_of=as_of),
        reference.metering.periods.adjustments("calls", "acme", as_of=as_of),
    )


@settings(max_examples=examples(25))
@given(RULES, histories(max_size=15))
def test_as_of_each_position_gives_the_earlier_results(rules: Rules, history: list[Step]) -> None:
    """As of each time too; for all customers and for one."""
    with open_reference(rules) as reference:
        earlier: dict[int, tuple[datetime, QueryResults]] = {}

        def remember() -> None:
            earlier[reference.metering.catch_up()] = (reference.clock.now, query_results(reference, None))

        run_steps(reference, history, after=remember)
        for position, (now, results) in earlier.items():
            assert query_results(reference, position) == results
            closed, adjustments, of_acme = query_results(reference, now)
            assert (closed, without_position(adjustments), without_position(of_acme)) == (
                results[0],
                without_position(results[1]),
                without_position(results[2]),
            )
        for _, adjustments, of_acme in (results for _, results in earlier.values()):
            assert of_acme == [adjustment for adjustment in adjustments if adjustment.period.customer == "acme"]


def without_position(adjustments: list[Adjustment]) -> list[object]:
    """Return adjustments without the position, which as of a time is the present one."""
    return [
        (adjustment.period, adjustment.difference, adjustment.rules_difference, adjustment.events)
        for adjustment in adjustments
    ]


@given(
    st.builds(
        Rules, st.sampled_from(["sum", "count"]), st.sampled_from([None, "hour", "day"]), by_region=st.booleans()
    ),
    st.lists(RECORDS | CANCELS, min_size=3, max_size=40),
    st.sampled_from(ZONES),
    st.data(),
)
def test_other_periods_have_no_adjustments(rules: Rules, history: list[Step], zone: str, data: st.DataObject) -> None:
    """The frozen totals and adjustments of periods that cover a range add up to the total of the range."""
    with open_reference(rules) as reference:
        tiles = TILES[zone]
        cuts = [data.draw(st.integers(0, len(history))) for _ in tiles]
        for number in range(len(history) + 1):
            for customer in NAMES:
                for tile in (tile for tile, cut in zip(tiles, cuts, strict=True) if cut == number):
                    reference.close(customer, tile)
            run_steps(reference, history[number : number + 1])
        for customer in NAMES:
            frozen = sum(Fraction(period.quantity) for period in reference.metering.periods.list("calls", customer))
            adjusted = sum(
                Fraction(adjustment.difference)
                for adjustment in reference.metering.periods.adjustments("calls", customer)
                if not adjustment.is_late
            )
            total = reference.metering.total("calls", customer, *TIME_RANGE)
            assert (
                frozen + adjusted
                == Fraction(total.value)
                == expected_total(reference.events, rules, customer, TIME_RANGE, whole_windows=True)
            )


def test_the_histories_cover_every_case() -> None:
    """Some close, reopen, have late or cancelled events, and have a rules difference for each kind of rule change."""
    expected_kinds = {
        "None to counted", "None to cancelled", "None to superseded", "counted to cancelled", "counted to superseded",
        "superseded to counted", "None to filtered", "counted to counted", "cancelled to counted",
        "difference", "no difference", "by rules", "reopened",
        "formula", "event_time_window", "customer_key", "value_key", "filter", "multiplier",
    }  # fmt: skip
    seen_kinds: set[str] = set()

    @first_examples(600)
    @given(RULES, histories())
    def collect(rules: Rules, history: list[Step]) -> None:
        with open_reference(rules) as reference:
            run_steps(reference, history)
            for adjustment in reference.metering.periods.adjustments("calls"):
                seen_kinds.update(f"{event.before} to {event.verdict}" for event in adjustment.events)
                seen_kinds.update({"difference"} if adjustment.difference else {"no difference"})
                seen_kinds.update({"by rules"} if adjustment.rules_difference else ())
            periods = reference.metering.periods.list("calls", reopened=True)
            seen_kinds.update("reopened" for period in periods if period.reopened_at)
            present = reference.rules.arguments
            for closed_record in reference.closed:
                arguments = closed_record.rules.arguments
                seen_kinds.update(key for key, value in arguments.items() if value != present[key])
        stop_if_covered(seen_kinds, expected_kinds)

    search(collect)
    assert seen_kinds >= expected_kinds
