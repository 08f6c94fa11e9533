"""In any history, rules that change between formulas and back arrive at the totals and the digests they began with."""

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, TallybookError

from ..sampling import examples
from .histories import (
    FORMULAS,
    METER_RULES,
    WINDOWS,
    MeterRules,
    Step,
    meters_of,
    open_ledger,
    run_steps,
    steps,
)
from .test_queries import ALL_TIME

NUMERIC = [formula for formula in FORMULAS if formula not in ("count", "unique_count")]
METERS = st.builds(
    MeterRules, st.sampled_from(NUMERIC), st.sampled_from(WINDOWS), st.sampled_from([None, "region", "region?"])
)
"""Meters whose events have a number, which every formula can read."""
HISTORIES = steps(1, allowed_meters=METERS)
RULES = METER_RULES


def digests(metering: Metering) -> dict[str, str]:
    """Return the digest of each table of the read models that has usage."""
    verification = metering.verify()
    assert verification.is_equal
    return {
        table.table: table.digest for table in verification.tables if table.table in ("customers", "usage", "totals")
    }


@settings(max_examples=examples(20))
@given(HISTORIES, st.lists(st.sampled_from(FORMULAS), max_size=3))
def test_formulas_change_and_come_back(history: list[Step], formulas: list[str]) -> None:
    """Sum to maximum to unique count to sum, or any others; each result equals the naive model of its formula."""
    (meter,) = meters_of(history)
    with open_ledger([meter]) as (metering, clock):
        run_steps(metering, clock, history)
        first, results = digests(metering), metering.totals(meter.name, *ALL_TIME, group_by=group_by(meter))
        for before, formula in pairwise([meter.formula, "max", "unique_count", *formulas, meter.formula]):
            if formula != before:
                metering.rules.change(meter.name, {"formula": formula}, reason="a test")
            check_formula(metering, meter, formula)
        assert digests(metering) == first
        assert metering.totals(meter.name, *ALL_TIME, group_by=group_by(meter)) == results


def group_by(meter: MeterRules) -> list[str]:
    """Return the dimensions of a meter."""
    return [] if meter.region is None else ["region"]


def check_formula(metering: Metering, meter: MeterRules, formula: str) -> None:
    """Check that the read models and the ledger alone have the same totals, and that events explain them."""
    totals = metering.totals(meter.name, *ALL_TIME)
    assert metering.replay_totals(meter.name, *ALL_TIME) == totals
    for total in totals:
        explanation = metering.explain(meter.name, total.customer, *ALL_TIME)
        assert (explanation.formula, explanation.total) == (formula, total)
        assert sum(Fraction(event.contribution) for event in explanation.events) == Fraction(total.value)


@settings(max_examples=examples(20))
@given(steps(1, allowed_meters=METERS.map(lambda meter: replace(meter, has_filter=True))), RULES)
def test_a_changed_meter_counts_like_one_that_always_had_its_rules(history: list[Step], rules: MeterRules) -> None:
    """After a change in the middle of a history, earlier and later events have the same verdicts and contributions."""
    (meter,) = meters_of(history)
    complete_history = [replace(step, value=step.value or "1") for step in history]
    with open_ledger([meter]) as (changed, _), open_ledger([rules]) as (unchanged, _):
        half = len(history) // 2
        record_steps(changed, meter.name, complete_history[:half])
        changed.generations.promote(
            changed.generations.rebuild(rules={meter.name: rules.arguments}).number, reason="a test"
        )
        record_steps(changed, meter.name, complete_history[half:])
        record_steps(unchanged, rules.name, complete_history)
        assert results_of(changed, meter.name, rules) == results_of(unchanged, rules.name, rules)


def record_steps(metering: Metering, event_name: str, history: list[Step]) -> None:
    """Run the steps on a meter; those that are rejected have no effect."""
    for step in history:
        if step.revokes:
            with suppress(TallybookError):
                metering.revoke_cancel(event_name, step.identifier, reason="cancelled by mistake")
        elif step.cancels:
            with suppress(TallybookError):
                metering.cancel(event_name, step.identifier)
        else:
            payload = step.payload | {"region": step.region or "eu"}
            metering.record_many([step.event_input | {"event_name": event_name, "payload": payload}])


def results_of(metering: Metering, event_name: str, meter: MeterRules) -> list[object]:
    """Return the totals of a meter and the verdict and contribution of each event."""
    explanation = metering.explain(event_name, None, *ALL_TIME, group_by=group_by(meter))
    return [
        metering.totals(event_name, *ALL_TIME, group_by=group_by(meter)),
        metering.summaries(event_name, "acme", *ALL_TIME, window="hour", timezone="Asia/Kathmandu"),
        explanation.total,
        [(event.identifier, event.verdict, event.contribution) for event in explanation.events],
    ]
