"""Whatever rules were in force when: every answer is under those of its position, and a diff tells what will change."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, TallybookError
from tallybook.domain.errors import RulesCannotRead

from ..notation import Clock
from .histories import of
from .naive import Said, figures
from .rule_histories import (
    ALL_TIME,
    CUSTOMERS,
    HISTORIES,
    METERS,
    NOW,
    RULES,
    NaiveRules,
    Step,
    Told,
    changes,
    opened,
    promote,
)

History = list[tuple[Step, int]]
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")


def everything(metering: Metering, meter: str, as_of: datetime | int | None) -> list[object]:
    """What each reading call answers about one meter; positions, which a moment can't know, are left out of it."""
    return [
        metering.meter(meter, as_of=as_of),
        *(metering.total(meter, customer, *ALL_TIME, as_of=as_of) for customer in (*CUSTOMERS, None)),
        metering.totals(meter, *ALL_TIME, as_of=as_of),
        metering.summaries(meter, None, *ALL_TIME, window="day", timezone="Europe/Berlin", as_of=as_of),
        metering.summaries(meter, "acme", *ALL_TIME, window="hour", as_of=as_of),
        metering.events(meter, as_of=as_of),
        metering.events(meter, customer="beta", as_of=as_of),
        replace(metering.explain(meter, None, *ALL_TIME, as_of=as_of), position=0),
        replace(metering.explain(meter, "core", *ALL_TIME, as_of=as_of), position=0),
        metering.closed_periods(meter, reopened=True, as_of=as_of),
        [replace(one, position=0) for one in metering.adjustments(meter, as_of=as_of)],
    ]


def tell(
    metering: Metering, clock: Clock, told: Told, history: History, after: Callable[[], None] = lambda: None
) -> None:
    """Let a history happen, step by step."""
    for step, pause_seconds in history:
        clock.now += timedelta(seconds=pause_seconds)
        step(metering, clock, told)
        after()


@settings(max_examples=40)
@given(HISTORIES)
def test_as_of_every_position_is_what_was_answered_there(history: History) -> None:
    """Every reading call answers again as of each position, and as of each moment, what it answered then."""
    at_position: dict[int, dict[str, list[object]]] = {}
    at_moment: dict[datetime, dict[str, list[object]]] = {}
    with opened() as (metering, clock, told):

        def remember() -> None:
            answered = {meter: everything(metering, meter, None) for meter in told.rules}
            at_position[metering.catch_up()] = at_moment[clock.now] = answered

        remember()
        tell(metering, clock, told, history, after=remember)
        for then in (at_position, at_moment):
            for as_of, answered in then.items():
                assert [one.event_name for one in metering.meters(as_of=as_of)] == sorted(answered)
                for meter in answered:
                    assert everything(metering, meter, as_of) == answered[meter], as_of


@settings(max_examples=40)
@given(HISTORIES)
def test_figures_are_those_of_plain_counting_under_the_rules_in_force(history: History) -> None:
    """Now and as of each position, of each customer and of all together, as loops over all that was reported give."""
    with opened() as (metering, clock, told):
        tell(metering, clock, told, history)
        head = metering.catch_up()
        for meter, rules in told.rules.items():
            for position in range(rules[0][0], head + 1):
                uses = told.effective(meter, position)
                for customer in (*CUSTOMERS, None):
                    expected = figures(uses, customer, *ALL_TIME)
                    assert of(metering.total(meter, customer, *ALL_TIME, as_of=position)) == expected
                    if position == head:
                        assert of(metering.total(meter, customer, *ALL_TIME)) == expected
            assert metering.totals_from_ledger(meter, *ALL_TIME) == metering.totals(meter, *ALL_TIME)
            for position in range(rules[0][0]):
                zero = metering.total(meter, None, *ALL_TIME, as_of=position)
                assert (zero.value, zero.sum, zero.count, zero.last) == (0, 0, 0, None)
                with pytest.raises(TallybookError):
                    metering.meter(meter, as_of=position)


Figures = dict[tuple[str, str, datetime], Fraction]


def by_window(metering: Metering, window: str, timezone: str) -> Figures:
    """The figure of each meter, customer and window, where there is usage that counts."""
    return {
        (view.event_name, customer, one.start): Fraction(one.value)
        for view in metering.meters()
        for customer in CUSTOMERS
        for one in metering.summaries(view.event_name, customer, *ALL_TIME, window=window, timezone=timezone)
    }


@settings(max_examples=60)
@given(
    HISTORIES,
    st.dictionaries(st.sampled_from(METERS), RULES, min_size=1),
    st.sampled_from(["hour", "day", "month"]),
    st.sampled_from(ZONES),
)
def test_a_diff_tells_what_promoting_changes(
    history: History, wanted: dict[str, NaiveRules], window: str, timezone: str
) -> None:
    """By meter, customer and window: the difference of the answers before and after, as plain counting gives it; and
    going back, the diff of the way back turned around."""
    with opened() as (metering, clock, told):
        tell(metering, clock, told, history)
        wanted = {meter: rules for meter, rules in wanted.items() if meter in told.rules}
        head = metering.catch_up()
        asked = {meter: changes(rules) for meter, rules in wanted.items()}
        uses = [(said.meter, payload) for said, payload in told.said if not said.cancels]
        unreadable = [meter in wanted and not readable(wanted[meter], payload) for meter, payload in uses]
        if any(unreadable):
            with pytest.raises(RulesCannotRead) as refused:
                metering.rebuild(rules=asked)
            assert refused.value.count == sum(unreadable)
            return
        candidate = metering.rebuild(rules=asked).number
        before = by_window(metering, window, timezone)
        diff = metering.diff(candidate, window=window, timezone=timezone)
        live = next(one.number for one in metering.generations() if one.state == "live")
        for one in diff.differences:
            for rules, figure in ((None, one.before), (wanted.get(one.event_name), one.after)):
                by = rules or told.in_force(one.event_name, head)
                uses = told.effective(one.event_name, head, by)
                total, count, last = figures(uses, one.customer, one.start, one.end)
                assert figure == {"sum": total, "count": count, "last": last or 0}[by.formula]
        promote(metering, told, candidate)
        after = by_window(metering, window, timezone)
        expected = {
            key: (before.get(key, Fraction(0)), after.get(key, Fraction(0)))
            for key in sorted(before.keys() | after.keys())
            if before.get(key, Fraction(0)) != after.get(key, Fraction(0))
        }
        differences = [((one.event_name, one.customer, one.start), one) for one in diff.differences]
        assert {key: (Fraction(one.before), Fraction(one.after)) for key, one in differences} == expected
        assert [key for key, _ in differences] == list(expected)
        assert all(one.difference == one.after - one.before for one in (*diff.differences, *diff.meters))
        assert {one.event_name: one.customers for one in diff.meters} == {
            meter: len({customer for name, customer, _ in expected if name == meter}) for meter in told.rules
        }
        for one in diff.meters:
            sums = [sum(found[key] for key in found if key[0] == one.event_name) for found in (before, after)]
            assert [Fraction(one.before), Fraction(one.after)] == sums
        back = metering.diff(live, window=window, timezone=timezone)
        assert [(one.before, one.after) for one in back.differences] == [
            (one.after, one.before) for one in diff.differences
        ]


def readable(rules: NaiveRules, payload: Mapping[str, str]) -> bool:
    """Whether rules can read a payload."""
    return rules.said(Said(0, NOW, ""), payload) is not None


def test_the_histories_hold_what_they_should() -> None:
    """Of many histories some change rules more than once, go back, cancel under changed rules and close periods."""
    seen: set[str] = set()

    @settings(max_examples=80, derandomize=True)
    @given(HISTORIES)
    def look(history: History) -> None:
        with opened() as (metering, clock, told):
            tell(metering, clock, told, history)
            changed = [len(rules) > 2 for rules in told.rules.values()]
            back = [len({rule for _, rule in rules}) < len(rules) for rules in told.rules.values()]
            first = min((rules[1][0] for rules in told.rules.values() if len(rules) > 1), default=10**6)
            found = {
                "changed twice": any(changed),
                "went back": any(back),
                "cancelled later": any(said.cancels and said.position > first for said, _ in told.said),
                "closed": any(metering.closed_periods(meter) for meter in told.rules),
                "adjusted": any(metering.adjustments(meter) for meter in told.rules),
                "two meters": len(told.rules) > 1,
            }
        seen.update(kind for kind, is_there in found.items() if is_there)

    look()
    assert seen == {"changed twice", "went back", "cancelled later", "closed", "adjusted", "two meters"}
