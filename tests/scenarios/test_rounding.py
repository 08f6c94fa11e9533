"""Multipliers and rounding: quantities are scaled exactly, and only the billable quantity is rounded."""

from decimal import Decimal

import pytest
from tallybook.domain.errors import PreviewChanged

from ..notation import Ledger, moment

DAY = moment("10"), moment("11")


@pytest.mark.parametrize(
    ("rounding", "billable"),
    [
        ("up 1", "124"),
        ("down 1", "123"),
        ("half_up 1", "123"),
        ("up 0.01", "123.46"),
        ("down 0.01", "123.45"),
        ("half_up 0.01", "123.46"),
        ("up 100", "200"),
        ("half_up 100", "100"),
        ("up 0.25", "123.50"),
        ("half_up 0.001", "123.456"),
    ],
)
def test_the_billable_quantity_is_a_multiple_of_the_step(ledger: Ledger, rounding: str, billable: str) -> None:
    """The value itself stays exact."""
    ledger.given(f"""
        meter  hours  sum  rounded {rounding}
        10:05  acme hours 100.456
        10:15  acme hours 23
    """)
    ledger.then(total="acme hours 123.456", billable=billable)


@pytest.mark.parametrize(("rounding", "billable"), [("up 1", "0"), ("down 1", "0"), ("half_up 1", "0")])
def test_a_negative_total_is_billed_as_0(ledger: Ledger, rounding: str, billable: str) -> None:
    """In every mode."""
    ledger.given(f"""
        meter  hours  sum  rounded {rounding}
        10:05  acme hours -2.5
    """)
    ledger.then(total="acme hours -2.5", billable=billable)


def test_seconds_are_billed_as_started_hours(ledger: Ledger) -> None:
    """The contributions add up to the quantity, although none of them has a finite form."""
    ledger.given("""
        meter  seconds  sum  times 1/3600  rounded up 1
        10:05  acme seconds 1000  id=a
        10:15  acme seconds 2000  id=b
        10:25  acme seconds 4000  id=c
    """)
    ledger.then(total="acme seconds 1.944444444444444", sum="7000", billable="2")
    assert ledger.contributions("acme seconds") == [
        "a 0.277777777777778", "b 0.555555555555555", "c 1.111111111111111",
    ]  # fmt: skip


def test_bytes_are_billed_as_gigabytes(ledger: Ledger) -> None:
    """A multiplier with a finite form is exact to the last digit."""
    ledger.given("""
        meter  bytes  sum  times 0.000000001
        10:05  acme bytes 1234567890123  id=a
        10:15  acme bytes 1              id=b
    """)
    ledger.then(total="acme bytes 1234.567890124", billable="1234.567890124")
    assert ledger.contributions("acme bytes") == ["a 1234.567890123", "b 1E-9"]


@pytest.mark.parametrize(
    ("formula", "total", "contributions"),
    [
        ("max", "0.9", ["a 0", "b 0.9", "c 0"]),
        ("count", "0.3", ["a 0.1", "b 0.1", "c 0.1"]),
        ("avg", "0.533333333333333", None),
        ("unique_count", "0.2", ["a 0.1", "b 0.1", "c 0"]),
    ],
)
def test_a_multiplier_scales_every_formula(
    ledger: Ledger, formula: str, total: str, contributions: list[str] | None
) -> None:
    """Whatever the formula returns."""
    ledger.given(f"""
        meter  load  {formula}  times 0.1
        10:05  acme load 3.5  id=a
        10:15  acme load 9    id=b
        10:25  acme load 3.5  id=c
    """)
    ledger.then(total=f"acme load {total}")
    if contributions is not None:
        actual = [line.split() for line in ledger.contributions("acme load")]
        assert [f"{name} {Decimal(share).normalize()}" for name, share in actual] == contributions


def test_each_group_and_each_window_is_rounded_by_itself(ledger: Ledger) -> None:
    """So the rounded groups may add up to more than the rounded total."""
    ledger.given("""
        meter  hours  sum  by region  rounded up 1
        10:05  acme hours 1.2  region=eu
        10:15  acme hours 1.2  region=us
    """)
    ledger.then(total="acme hours 2.4", billable="3")
    total = ledger.metering.total("hours", "acme", *DAY, group_by=["region"])
    assert [group.billable for group in total.groups] == [2, 2]
    hours = ledger.metering.summaries("hours", "acme", *DAY, window="minute")
    assert [hour.billable for hour in hours] == [2, 2]


def test_a_closing_freezes_the_rounded_quantity(ledger: Ledger) -> None:
    """A late event owes what it adds to the rounded quantity, which may be nothing."""
    ledger.given("""
        meter  hours  sum  by region  rounded up 1
        10:05  acme hours 1.2  region=eu
        close  acme hours 10 11  by region  at=11T02:00
        10:15  acme hours 0.5  region=eu
    """)
    (closed,) = ledger.metering.periods.list("hours")
    assert (str(closed.quantity), str(closed.billable), closed.groups[0].billable) == ("1.2", "2", 2)
    (adjustment,) = ledger.metering.periods.adjustments("hours")
    assert (str(adjustment.difference), adjustment.billable_difference) == ("0.5", 0)
    ledger.given("10:25  acme hours 0.5  region=eu")
    (adjustment,) = ledger.metering.periods.adjustments("hours")
    assert (str(adjustment.difference), adjustment.billable_difference) == ("1.0", 1)


def test_a_multiplier_and_a_rounding_change_as_rules(ledger: Ledger) -> None:
    """Earlier totals stay as they were; no event is counted again."""
    ledger.given("""
        meter   seconds  sum
        10:05   acme seconds 5400
        change  seconds  sum  times 1/3600  at=11:00
        change  seconds  sum  times 1/3600  rounded down 1  at=12:00
    """)
    ledger.then(total="acme seconds 1.5", billable="1")
    ledger.then(total="acme seconds 1.5", billable="1.5", as_of="11:30")
    ledger.then(total="acme seconds 5400", billable="5400", as_of="10:30")
    ledger.when("change seconds sum times 1/3600 rounded down 1").outcomes_are("parameter_invalid")


def test_a_change_of_the_rounding_alone_is_a_difference(ledger: Ledger) -> None:
    """The totals stay, and what is billed differs. The digest of the time before there was usage is rejected."""
    ledger.given("meter  hours  sum  rounded down 1")
    generations = ledger.metering.generations
    candidate = generations.build_candidate("hours", {"rounding": {"mode": "up", "step": "10"}}).number
    before = generations.diff(candidate)
    assert before.differences == ()
    ledger.given("""
        10:05  acme hours 1.5
        10:15  bolt hours 20
        10:25  core hours 28.5
    """)
    now = generations.diff(candidate)
    assert [
        (row.customer, row.before, row.after, row.billable_before, row.billable_after) for row in now.sorted_by_size
    ] == [("acme", Decimal("1.5"), Decimal("1.5"), 1, 10), ("core", Decimal("28.5"), Decimal("28.5"), 28, 30)]
    assert [(meter.customers, meter.difference) for meter in now.meters] == [(2, 0)]
    with pytest.raises(PreviewChanged):
        generations.promote(candidate, reason="price list 2", digest=before.digest)
    assert now.digest is not None
    generations.promote(candidate, reason="price list 2", digest=now.digest)
    ledger.then(total="acme hours 1.5", billable="10")


def test_the_digest_identifies_what_is_billed(ledger: Ledger) -> None:
    """Two roundings of the same new totals have two digests; a step that changes nothing has that of no rounding."""
    ledger.given("""
        meter  hours  sum
        10:05  acme hours 90
    """)
    generations = ledger.metering.generations
    digests: list[str | None] = []
    for rounding in (None, {"mode": "up", "step": "1"}, {"mode": "up", "step": "2"}, {"mode": "down", "step": "2"}):
        candidate = generations.build_candidate("hours", {"multiplier": "1/2", "rounding": rounding})
        digests.append(generations.diff(candidate.number).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
