"""Dimensions: totals by their values, of some values only, and of events without an optional one."""

from datetime import timedelta

import pytest
from tallybook.application import TallybookError

from ..notation import Ledger, moment

DAY = moment("10"), moment("11")


def test_a_total_is_divided_by_the_values_of_a_dimension(ledger: Ledger) -> None:
    """Groups are sorted by value, and those of a sum add up to the total."""
    ledger.given("""
        meter  tokens  sum  by model
        10:05  acme tokens 10  model=small
        10:15  acme tokens  4  model=large
        10:25  acme tokens  7  model=small
        10:35  beta tokens  1  model=small
    """)
    ledger.then(total="acme tokens 21")
    assert ledger.groups("acme tokens by model") == ["large 4", "small 17"]
    assert ledger.groups("* tokens by model") == ["large 4", "small 18"]
    assert ledger.groups("core tokens by model") == []


def test_groups_of_a_total_have_all_of_its_numbers(ledger: Ledger) -> None:
    """Value, sum, count, last, minimum, maximum and billable, of the same customer and range."""
    ledger.given("""
        meter  load  max  by model
        10:05  acme load -3  model=small
        10:15  acme load -5  model=small
    """)
    (group,) = ledger.metering.total("load", "acme", *DAY, group_by=["model"]).groups
    assert (group.value, group.sum, group.count, group.last, group.min, group.max) == (-3, -8, 2, -5, -5, -3)
    assert (group.billable, group.customer, group.start, group.end) == (0, "acme", *DAY)
    assert (group.dimensions, group.groups) == ({"model": "small"}, ())


def test_groups_by_several_dimensions_are_their_combinations(ledger: Ledger) -> None:
    """In the order in which the query names the dimensions."""
    ledger.given("""
        meter  tokens  sum  by model,region
        10:05  acme tokens 1  model=small  region=eu
        10:15  acme tokens 2  model=small  region=us
        10:25  acme tokens 4  model=large  region=eu
        10:35  acme tokens 8  model=small  region=eu
    """)
    assert ledger.groups("acme tokens by model,region") == ["large,eu 4", "small,eu 9", "small,us 2"]
    assert ledger.groups("acme tokens by region,model") == ["eu,large 4", "eu,small 9", "us,small 2"]
    assert ledger.groups("acme tokens by region") == ["eu 13", "us 2"]


def test_an_event_without_an_optional_dimension_is_in_a_group_of_its_own(ledger: Ledger) -> None:
    """It comes first, and isn't the group of the empty text."""
    ledger.given("""
        meter  tokens  sum  by region,plan?
        10:05  acme tokens 1  region=eu  plan=free
        10:15  acme tokens 2  region=eu
        10:25  acme tokens 4  region=us  plan=
        10:35  acme tokens 8  region=us
    """)
    assert ledger.groups("acme tokens by plan") == ["- 10", " 4", "free 1"]
    assert ledger.groups("acme tokens by plan,region") == ["-,eu 2", "-,us 8", ",us 4", "free,eu 1"]
    ledger.when("10:45  acme tokens 1  plan=free").outcomes_are("missing_dimension_payload_keys")


def test_a_query_selects_dimension_values(ledger: Ledger) -> None:
    """One value, several, or none for an absent optional dimension; all conditions must match."""
    ledger.given("""
        meter  tokens  sum  by region,plan?
        10:05  acme tokens 1  id=a  region=eu  plan=free
        10:15  acme tokens 2  id=b  region=eu
        10:25  acme tokens 4  id=c  region=us  plan=paid
        10:35  acme tokens 8  id=d  region=us
    """)
    for where, total, identifiers in (
        ({"region": "eu"}, 3, "ab"),
        ({"region": ["eu", "us"]}, 15, "abcd"),
        ({"plan": None}, 10, "bd"),
        ({"plan": ["free", None]}, 11, "abd"),
        ({"plan": None, "region": "us"}, 8, "d"),
        ({"region": "asia"}, 0, ""),
    ):
        explanation = ledger.metering.explain("tokens", "acme", *DAY, where=where)
        assert explanation.total == ledger.metering.total("tokens", "acme", *DAY, where=where)
        assert explanation.total.value == sum(event.contribution for event in explanation.events) == total
        assert [event.identifier for event in explanation.events] == list(identifiers)
        assert [event.identifier for event in ledger.metering.events("tokens", where=where)] == list(identifiers)
    assert ledger.groups("acme tokens by plan where region=us") == ["- 8", "paid 4"]


def test_totals_of_all_customers_and_of_windows_have_groups(ledger: Ledger) -> None:
    """A customer without usage of the selected values is left out."""
    ledger.given("""
        meter    tokens  sum  by model
        10:05    acme tokens 1  model=small
        10:15    beta tokens 2  model=large
        11T10:05  acme tokens 4  model=large
    """)
    both_days = DAY[0], moment("12")
    totals = ledger.metering.totals("tokens", *both_days, group_by=["model"])
    assert [(total.customer, [group.value for group in total.groups]) for total in totals] == [
        ("acme", [4, 1]), ("beta", [2]),
    ]  # fmt: skip
    small = ledger.metering.totals("tokens", *both_days, where={"model": "small"})
    assert [(total.customer, total.value) for total in small] == [("acme", 1)]
    days = ledger.metering.summaries("tokens", None, *both_days, window="day", group_by=["model"])
    assert [[(str(group.dimensions["model"]), group.value) for group in day.groups] for day in days] == [
        [("large", 2), ("small", 1)], [("large", 4)],
    ]  # fmt: skip
    assert [group.start for day in days for group in day.groups] == [DAY[0], DAY[0], DAY[1]]


def test_one_event_counts_in_a_window_for_each_combination_of_values(ledger: Ledger) -> None:
    """An event supersedes those of its customer with the same values; an absent value is a value of its own."""
    ledger.given("""
        meter  seats  sum per hour  by region?
        10:05  acme seats 10  id=a  region=eu
        10:15  acme seats  4  id=b  region=us
        10:25  acme seats  7  id=c  region=eu
        10:35  acme seats  1  id=d
        10:45  acme seats  2  id=e
        10:55  beta seats  5  id=f  region=eu
    """)
    assert ledger.groups("acme seats by region") == ["- 2", "eu 7", "us 4"]
    assert ledger.explanation("acme seats") == [
        "a superseded by c", "b counted", "c counted", "d superseded by e", "e counted",
    ]  # fmt: skip
    ledger.given("cancel c")
    assert ledger.groups("acme seats by region where region=eu") == ["eu 10"]


@pytest.mark.parametrize(
    ("formula", "total", "groups"),
    [
        ("max", "9", ["eu 9", "us 4"]),
        ("avg", "5", ["eu 5.5", "us 4"]),
        ("unique_count", "3", ["eu 2", "us 1"]),
        ("last", "2", ["eu 2", "us 4"]),
    ],
)
def test_groups_of_other_formulas_do_not_add_up(ledger: Ledger, formula: str, total: str, groups: list[str]) -> None:
    """Each is the formula of its own events."""
    ledger.given(f"""
        meter  load  {formula}  by region
        10:05  acme load 9  region=eu
        10:15  acme load 4  region=us
        10:25  acme load 2  region=eu
    """)
    ledger.then(total=f"acme load {total}")
    assert ledger.groups("acme load by region") == groups


def test_a_user_of_two_regions_counts_in_both(ledger: Ledger) -> None:
    """And once in the total."""
    ledger.given("""
        meter  users  unique_count  by region
        10:05  acme users u1  region=eu
        10:15  acme users u1  region=us
    """)
    ledger.then(total="acme users 1")
    assert ledger.groups("acme users by region") == ["eu 1", "us 1"]


def test_a_closing_freezes_groups_and_adjustments_divide_the_difference(ledger: Ledger) -> None:
    """Late events and cancellations are adjusted in their group; a new group has no frozen total."""
    ledger.given("""
        meter  tokens  sum  by region,plan?
        10:05  acme tokens 5  id=a  region=eu
        10:15  acme tokens 3  id=b  region=us  plan=paid
        close  acme tokens 10 11  by region  at=11T02:00
        10:25  acme tokens 2  id=c  region=us  plan=paid
        10:35  acme tokens 1  id=d  region=asia
        cancel a
    """)
    assert ledger.closed_periods("tokens") == ["acme 10: 8, eu 5, us 3"]
    changes = "a cancelled -5, c counted +2, d counted +1"
    assert ledger.adjustments("tokens", by="region") == [f"acme 10: -2, {changes}, asia +1, eu -5, us +2"]
    assert ledger.adjustments("tokens", by="plan") == [f"acme 10: -2, {changes}, - -4, paid +2"]
    assert ledger.adjustments("tokens") == [f"acme 10: -2, {changes}"]
    (american,) = ledger.metering.periods.adjustments("tokens", where={"region": "us"})
    assert (american.quantity, american.difference, american.billable_difference) == (5, 2, 2)
    assert [event.identifier for event in american.events] == ["c"]
    assert ledger.metering.verify().is_equal


def test_a_dimension_is_added_after_its_difference_was_seen(ledger: Ledger) -> None:
    """A window counts one event for each region then, so the total changes; as of before, it didn't."""
    ledger.given("""
        meter  seats  last per hour
        10:05  acme seats 10  region=eu
        10:15  acme seats  4  region=us
        11:05  acme seats  7
    """)
    rules = {"formula": "sum", "optional_dimension_keys": ["region"]}
    candidate = ledger.metering.generations.build_candidate("seats", rules)
    difference = ledger.metering.generations.diff(candidate.number, group_by=["region"])
    assert [(item.dimensions, item.before, item.after) for item in difference.differences] == [
        ({"region": "eu"}, 0, 10), ({"region": "us"}, 0, 4),
    ]  # fmt: skip
    ledger.then(total="acme seats 7")
    ledger.metering.generations.promote(candidate.number, reason="billed by region")
    ledger.then(total="acme seats 21").then(total="acme seats 7", as_of=4)
    assert ledger.groups("acme seats by region") == ["- 7", "eu 10", "us 4"]
    with pytest.raises(TallybookError, match="'group_by' names 'region', which is no dimension of the meter"):
        ledger.groups("acme seats by region", as_of=4)


def test_a_required_dimension_needs_all_events_to_have_it(ledger: Ledger) -> None:
    """An optional one doesn't."""
    ledger.given("""
        meter  tokens  sum
        10:05  acme tokens 10  region=eu
        10:15  acme tokens  4
    """)
    ledger.when("""
        change tokens sum by region
        change tokens sum by region?
    """).outcomes_are("incompatible_rules", "changed")
    assert ledger.groups("acme tokens by region") == ["- 4", "eu 10"]


def test_an_event_has_its_dimension_values_by_key(ledger: Ledger) -> None:
    """Required ones first; None is an absent optional one."""
    ledger.given("""
        meter  tokens  sum  by region,plan?
        10:05  acme tokens 10  id=a  region=eu  note=x
    """)
    assert ledger.metering.event("a").dimensions == {"region": "eu", "plan": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group_by": ["size"]}, "'group_by' names 'size', .* its dimensions are 'region', 'plan'"),
        ({"group_by": "region"}, "'group_by' must be a list of dimension keys"),
        ({"group_by": ["region", "region"]}, "'group_by' must name different dimensions"),
        ({"where": {"size": "1"}}, "'where' names 'size'"),
        ({"where": {"region": []}}, "'where' must map 'region' to a text"),
        ({"where": {"region": 1}}, "'where' must map 'region' to a text"),
        ({"where": {"region": [1]}}, "'where' must map 'region' to a text"),
        ({"where": {"region": ["eu"] * 1_001}}, "a list of 1 to 1000"),
        ({"where": "region=eu"}, "'where' must map dimension keys to values"),
    ],
)
def test_a_query_names_dimensions_of_the_meter(ledger: Ledger, arguments: dict[str, object], message: str) -> None:
    """An error names the argument and the dimensions."""
    ledger.given("meter tokens sum by region,plan?")
    with pytest.raises(TallybookError, match=message) as exc_info:
        ledger.metering.total("tokens", None, *DAY, **arguments)  # type: ignore[arg-type]
    assert (exc_info.value.code, exc_info.value.field) == ("parameter_invalid", next(iter(arguments)))


def test_a_group_is_computed_from_stored_hours_and_days(ledger: Ledger) -> None:
    """Also of a range that cuts days, and as of an earlier position."""
    ledger.given("meter tokens sum by model")
    for hour in range(60):
        ledger.metering.record(
            "tokens",
            {"customer": "acme", "tokens": 1, "model": ("small", "large")[hour % 2]},
            timestamp=moment("2025-12-29T00:30") + timedelta(hours=hour),
        )
    assert ledger.groups("acme tokens by model", "2025-12-29T05:00 2026-01-01T00:00") == ["large 28", "small 27"]
    assert ledger.groups("acme tokens by model", "2025-12-29T05:00 2026-01-01T00:00", as_of=11) == [
        "large 3", "small 2",
    ]  # fmt: skip


def test_a_difference_by_a_dimension_leaves_out_meters_without_it(ledger: Ledger) -> None:
    """If no meter has it, that is an error."""
    ledger.given("""
        meter  tokens  sum  by model
        meter  seats   sum
        10:05  acme tokens 10  model=small
        10:15  acme seats  4
    """)
    candidate = ledger.metering.generations.build_candidate("tokens", {"formula": "count"})
    difference = ledger.metering.generations.diff(candidate.number, group_by=["model"])
    assert [meter.event_name for meter in difference.meters] == ["tokens"]
    assert [meter.event_name for meter in ledger.metering.generations.diff(candidate.number).meters] == [
        "seats", "tokens",
    ]  # fmt: skip
    for arguments in ({"group_by": ["size"]}, {"where": {"size": "1"}}):
        with pytest.raises(TallybookError, match="No meter has the dimensions 'size'") as exc_info:
            ledger.metering.generations.diff(candidate.number, **arguments)  # type: ignore[arg-type]
        assert exc_info.value.field == next(iter(arguments))
