"""Formulas, groups and filters on each store: totals from stored hours and days, before and after rule changes."""

from datetime import timedelta
from itertools import pairwise

import pytest
from tallybook.application import AcceptancePolicy, Formula, Metering

from .histories import CUSTOMERS, END, START, record_history
from .stores import Store

CUT = START + timedelta(hours=7, minutes=20), END - timedelta(days=28, minutes=5)
"""A range whose ends cut hours."""
FORMULAS = [formula.value for formula in Formula]


def digests(metering: Metering) -> dict[str, str]:
    """Return the digest of each table of the read models that has usage."""
    verification = metering.verify()
    assert verification.is_equal
    usage_tables = ("customers", "usage", "totals")
    return {table.table: table.digest for table in verification.tables if table.table in usage_tables}


def check_totals(metering: Metering, event_name: str) -> None:
    """Check totals from stored parts against the events that explain them, and against the ledger alone."""
    for bounds in ((START, END), CUT):
        totals = metering.totals(event_name, *bounds)
        assert metering.replay_totals(event_name, *bounds) == totals
        for customer in (*CUSTOMERS, None):
            explanation = metering.explain(event_name, customer, *bounds)
            assert explanation.total == metering.total(event_name, customer, *bounds)
            assert explanation.total.value == sum(event.contribution for event in explanation.events)


def test_formulas_change_and_come_back(store: Store) -> None:
    """Sum to each other formula and back to sum: the read models have the digests they began with."""
    with store.metering() as metering:
        record_history(metering)
        first, totals = digests(metering), metering.totals("tokens", START, END)
        for before, formula in pairwise(["sum", *FORMULAS, "sum"]):
            if formula != before:
                metering.rules.change("tokens", {"formula": formula}, reason="a test")
            check_totals(metering, "tokens")
        assert digests(metering) == first
        assert metering.totals("tokens", START, END) == totals


@pytest.mark.parametrize("formula", FORMULAS)
def test_each_formula_in_windows_by_region_with_a_filter(store: Store, formula: str) -> None:
    """Groups have the events of their region; of a filtered history too, and after another page."""
    with store.metering() as metering:
        record_history(metering, 60)
        rules = {
            "formula": formula,
            "event_time_window": "hour",
            "dimension_keys": ["region"],
            "filter": {"key": "value", "at_least": "0"},
            "multiplier": "1/3",
        }
        metering.rules.change("tokens", rules, reason="a test")
        check_totals(metering, "tokens")
        positive = {"customer": "acme", "value": "1000", "region": "asia"}
        for number, value in enumerate(("1000", "-1")):
            payload = positive | {"value": value}
            metering.record("tokens", payload, identifier=f"late-{number}", timestamp=START + timedelta(hours=number))
        check_totals(metering, "tokens")
        total = metering.total("tokens", "acme", START, END, group_by=["region"])
        for group in total.groups:
            selected = metering.total("tokens", "acme", START, END, where=dict(group.dimensions))
            assert (selected.value, selected.count, selected.max) == (group.value, group.count, group.max)
        assert [group.dimensions["region"] for group in total.groups] == ["asia", "eu", "us"]
        assert sum(group.count for group in total.groups) == total.count
        metering.cancel("tokens", "late-0")
        remaining = metering.total("tokens", "acme", START, END, group_by=["region"])
        assert [group.dimensions["region"] for group in remaining.groups] == ["eu", "us"]
        assert digests(metering)


def test_events_of_other_rules_are_not_read_by_those_of_the_range() -> None:
    """The totals from the ledger alone: an event before the change lacks the dimension that later events must have."""
    change = START + timedelta(days=1)
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="value")
        metering.rules.change("tokens", {"dimension_keys": ["model"]}, reason="a test", effective_from=change)
        metering.record("tokens", {"customer": "acme", "value": "1"}, timestamp=START)
        metering.record("tokens", {"customer": "acme", "value": "2", "model": "small"}, timestamp=change)
        for bounds in ((START, change), (change, END), (START, END)):
            assert metering.replay_totals("tokens", *bounds) == metering.totals("tokens", *bounds) != []
