"""In any history of rules, each query uses the rules in force, and a diff shows what a promotion changes."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, TallybookError
from tallybook.domain.errors import IncompatibleRules, InvalidParameter

from ..notation import Clock
from ..sampling import examples
from .coverage import first_examples, search, stop_if_covered
from .histories import totals_of
from .naive import HistoryEntry, compute_quantity, compute_totals, entries_between
from .rule_histories import (
    ALL_TIME,
    CUSTOMERS,
    HISTORIES,
    METERS,
    NOW,
    RULES,
    ReferenceLedger,
    ReferenceRules,
    Step,
    open_ledger,
    promote,
)

History = list[tuple[Step, int]]
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")


def all_results(metering: Metering, meter: str, as_of: datetime | int | None) -> list[object]:
    """Return the result of each query about one meter, without positions, which differ as of a time."""
    view = metering.meters.get(meter, as_of=as_of)
    group_by = view.dimension_keys + view.optional_dimension_keys
    return [
        view,
        metering.totals(meter, *ALL_TIME, as_of=as_of, group_by=group_by),
        metering.total(meter, None, *ALL_TIME, as_of=as_of, where=dict.fromkeys(group_by[:1], "eu")),
        replace(metering.explain(meter, "acme", *ALL_TIME, as_of=as_of, group_by=group_by), position=0),
        *(metering.total(meter, customer, *ALL_TIME, as_of=as_of) for customer in (*CUSTOMERS, None)),
        metering.totals(meter, *ALL_TIME, as_of=as_of),
        metering.summaries(meter, None, *ALL_TIME, window="day", timezone="Europe/Berlin", as_of=as_of),
        metering.summaries(meter, "acme", *ALL_TIME, window="hour", as_of=as_of),
        metering.events(meter, as_of=as_of),
        metering.events(meter, customer="beta", as_of=as_of),
        replace(metering.explain(meter, None, *ALL_TIME, as_of=as_of), position=0),
        replace(metering.explain(meter, "core", *ALL_TIME, as_of=as_of), position=0),
        metering.periods.list(meter, reopened=True, as_of=as_of),
        [replace(adjustment, position=0) for adjustment in metering.periods.adjustments(meter, as_of=as_of)],
    ]


def run_history(
    metering: Metering,
    clock: Clock,
    reference: ReferenceLedger,
    history: History,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Run the steps of a history."""
    for step, pause_seconds in history:
        clock.now += timedelta(seconds=pause_seconds)
        step(metering, clock, reference)
        after()


@settings(max_examples=examples(25))
@given(HISTORIES)
def test_as_of_every_position_gives_the_earlier_results(history: History) -> None:
    """Each query as of each position, and as of each time, returns the result that it returned then."""
    at_position: dict[int, dict[str, list[object]]] = {}
    at_moment: dict[datetime, dict[str, list[object]]] = {}
    with open_ledger() as (metering, clock, reference):

        def remember() -> None:
            results = {meter: all_results(metering, meter, None) for meter in reference.rules}
            at_position[metering.catch_up()] = at_moment[clock.now] = results

        remember()
        run_history(metering, clock, reference, history, after=remember)
        for earlier in (at_position, at_moment):
            for as_of, results in earlier.items():
                assert [meter_view.event_name for meter_view in metering.meters.list(as_of=as_of)] == sorted(results)
                for meter in results:
                    assert all_results(metering, meter, as_of) == results[meter], as_of


@settings(max_examples=examples(25))
@given(HISTORIES)
def test_totals_equal_the_reference_model_under_the_rules_in_force(history: History) -> None:
    """Now and as of each position, for each customer and for all customers."""
    with open_ledger() as (metering, clock, reference):
        run_history(metering, clock, reference, history)
        head = metering.catch_up()
        for meter, rules in reference.rules.items():
            for position in range(rules[0][0], head + 1):
                counted, in_force = reference.effective(meter, position), reference.in_force(meter, position)
                for customer in (*CUSTOMERS, None):
                    expected = compute_totals(counted, customer, *ALL_TIME, in_force.event_time_window)
                    of_customer = entries_between(counted, customer, *ALL_TIME, in_force.event_time_window)
                    quantity = compute_quantity(in_force.formula, of_customer, in_force.multiplier)
                    for as_of in (position, None) if position == head else (position,):
                        total = metering.total(meter, customer, *ALL_TIME, as_of=as_of)
                        assert (totals_of(total), Fraction(total.value)) == (expected, quantity)
            assert metering.replay_totals(meter, *ALL_TIME) == metering.totals(meter, *ALL_TIME)
            for position in range(rules[0][0]):
                zero = metering.total(meter, None, *ALL_TIME, as_of=position)
                assert (zero.value, zero.sum, zero.count, zero.last) == (0, 0, 0, None)
                with pytest.raises(TallybookError):
                    metering.meters.get(meter, as_of=position)


WindowTotals = dict[tuple[str, str, datetime], Fraction]


def totals_by_window(metering: Metering, window: str, timezone: str) -> WindowTotals:
    """Return the quantity of each meter, customer and window with counted usage."""
    return {
        (meter.event_name, customer, summary.start): Fraction(summary.value)
        for meter in metering.meters.list()
        for customer in CUSTOMERS
        for summary in metering.summaries(meter.event_name, customer, *ALL_TIME, window=window, timezone=timezone)
    }


@settings(max_examples=examples(30))
@given(
    HISTORIES,
    st.dictionaries(st.sampled_from(METERS), RULES, min_size=1),
    st.sampled_from(["hour", "day", "month"]),
    st.sampled_from(ZONES),
)
def test_a_diff_shows_what_promoting_changes(
    history: History, new_rules: dict[str, ReferenceRules], window: str, timezone: str
) -> None:
    """By meter, customer and window, it is the difference of the results before and after, as in the naive model.

    The diff of the way back has the opposite sign.
    """
    with open_ledger() as (metering, clock, reference):
        run_history(metering, clock, reference, history)
        new_rules = {meter: rules for meter, rules in new_rules.items() if meter in reference.rules}
        head = metering.catch_up()
        arguments = {meter: rules.arguments for meter, rules in new_rules.items()}
        meter_events = [(entry.meter, payload) for entry, payload in reference.entries if not entry.cancels]
        is_incompatible = [
            meter in new_rules and not is_compatible(new_rules[meter], payload) for meter, payload in meter_events
        ]
        if any(is_incompatible):
            with pytest.raises(IncompatibleRules) as exc_info:
                metering.generations.rebuild(rules=arguments)
            assert exc_info.value.count == sum(is_incompatible)
            return
        candidate = metering.generations.rebuild(rules=arguments).number
        before = totals_by_window(metering, window, timezone)
        diff = metering.generations.diff(candidate, window=window, timezone=timezone)
        live = next(item.number for item in metering.generations.list() if item.state == "live")
        for item in diff.differences:
            for rules, value in ((None, item.before), (new_rules.get(item.event_name), item.after)):
                by = rules or reference.in_force(item.event_name, head)
                entries = reference.effective(item.event_name, head, by)
                counted = entries_between(entries, item.customer, item.start, item.end, by.event_time_window)
                assert Fraction(value) == compute_quantity(by.formula, counted, by.multiplier)
        promote(metering, reference, candidate)
        after = totals_by_window(metering, window, timezone)
        expected = {
            key: (before.get(key, Fraction(0)), after.get(key, Fraction(0)))
            for key in sorted(before.keys() | after.keys())
            if before.get(key, Fraction(0)) != after.get(key, Fraction(0))
        }
        differences = [((item.event_name, item.customer, item.start), item) for item in diff.differences]
        assert {key: (Fraction(item.before), Fraction(item.after)) for key, item in differences} == expected
        assert [key for key, _ in differences] == list(expected)
        assert all(item.difference == item.after - item.before for item in (*diff.differences, *diff.meters))
        assert {item.event_name: item.customers for item in diff.meters} == {
            meter: len({customer for name, customer, _ in expected if name == meter}) for meter in reference.rules
        }
        for item in diff.meters:
            sums = [sum(found[key] for key in found if key[0] == item.event_name) for found in (before, after)]
            assert [Fraction(item.before), Fraction(item.after)] == sums
        back = metering.generations.diff(live, window=window, timezone=timezone)
        assert [(item.before, item.after) for item in back.differences] == [
            (item.after, item.before) for item in diff.differences
        ]


@settings(max_examples=examples(25))
@given(HISTORIES, st.dictionaries(st.sampled_from(METERS), RULES, min_size=1))
def test_a_diff_by_a_dimension_equals_the_reference_model(
    history: History, new_rules: dict[str, ReferenceRules]
) -> None:
    """Of meters that have the dimension under either rules; without it, all usage is in the group None."""
    with open_ledger() as (metering, clock, reference):
        run_history(metering, clock, reference, history)
        head = metering.catch_up()
        rules_before = {meter: reference.in_force(meter, head) for meter in reference.rules}
        rules_after = rules_before | {meter: rules for meter, rules in new_rules.items() if meter in rules_before}
        arguments = {meter: rules_after[meter].arguments for meter in new_rules if meter in rules_after}
        meters = [
            meter for meter, rules in rules_before.items()
            if "region" in (*rules.all_dimension_keys, *rules_after[meter].all_dimension_keys)
        ]  # fmt: skip
        with suppress(IncompatibleRules):
            candidate = metering.generations.rebuild(rules=arguments).number
            if not meters:
                with pytest.raises(InvalidParameter):
                    metering.generations.diff(candidate, group_by=["region"])
                return
            diff = metering.generations.diff(candidate, window="year", group_by=["region"])
            found = {
                (item.event_name, item.customer, item.dimensions["region"]): (item.before, item.after)
                for item in diff.differences
            }
            before, after = (
                quantities_by_region(reference, head, {meter: rules[meter] for meter in meters})
                for rules in (rules_before, rules_after)
            )
            zero = Fraction(0)
            assert found == {
                key: (before.get(key, zero), after.get(key, zero))
                for key in before.keys() | after.keys()
                if before.get(key, zero) != after.get(key, zero)
            }
            assert [meter.event_name for meter in diff.meters] == sorted(meters)


def quantities_by_region(
    reference: ReferenceLedger, position: int, rules_by_meter: Mapping[str, ReferenceRules]
) -> dict[tuple[str, str, str | None], Fraction]:
    """Return the quantity of each meter, customer and region; the region is None if it is no dimension."""
    counted: defaultdict[tuple[str, str, str | None], list[HistoryEntry]] = defaultdict(list)
    for meter, rules in rules_by_meter.items():
        for entry in reference.effective(meter, position, rules):
            dimensions = dict(zip(rules.all_dimension_keys, entry.dimensions, strict=True))
            counted[meter, entry.customer, dimensions.get("region")].append(entry)
    return {
        key: compute_quantity(rules_by_meter[key[0]].formula, entries, rules_by_meter[key[0]].multiplier)
        for key, entries in counted.items()
    }


def is_compatible(rules: ReferenceRules, payload: Mapping[str, str]) -> bool:
    """Return whether a payload is compatible with rules."""
    return rules.apply(HistoryEntry(0, NOW, ""), payload) is not None


def test_the_histories_cover_every_case() -> None:
    """Some change rules several times, go back, cancel under changed rules and close periods."""
    expected_kinds = {"changed twice", "went back", "cancelled later", "closed", "adjusted", "two meters"}
    seen_kinds: set[str] = set()

    @first_examples(600)
    @given(HISTORIES)
    def collect(history: History) -> None:
        with open_ledger() as (metering, clock, reference):
            run_history(metering, clock, reference, history)
            changed = [len(rules) > 2 for rules in reference.rules.values()]
            back = [len({rule for _, rule in rules}) < len(rules) for rules in reference.rules.values()]
            first = min((rules[1][0] for rules in reference.rules.values() if len(rules) > 1), default=10**6)
            found = {
                "changed twice": any(changed),
                "went back": any(back),
                "cancelled later": any(said.cancels and said.position > first for said, _ in reference.entries),
                "closed": any(metering.periods.list(meter) for meter in reference.rules),
                "adjusted": any(metering.periods.adjustments(meter) for meter in reference.rules),
                "two meters": len(reference.rules) > 1,
            }
        seen_kinds.update(kind for kind, is_there in found.items() if is_there)
        stop_if_covered(seen_kinds, expected_kinds)

    search(collect)
    assert seen_kinds == expected_kinds
