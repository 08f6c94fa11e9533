"""The first usage of a meter is on the day from which other rules with windows of a day apply, which is 1:00 in Berlin.

The day of Berlin begins under the rules before, under which nothing is counted.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from tallybook.application import Metering

from ..contract.stores import ANY_TIME
from ..notation import moment

CHANGE = moment("2026-11-01")
BERLIN = ZoneInfo("Europe/Berlin")
END = datetime(2026, 12, 1, tzinfo=BERLIN)


@pytest.fixture
def seats() -> Iterator[Metering]:
    """A meter whose dated rules count the maximum, times 100, instead of the sum."""
    with Metering.open("sqlite://", policy=ANY_TIME, clock=lambda: CHANGE + timedelta(days=29)) as metering:
        metering.meters.configure("seats", event_time_window="day")
        metering.rules.change("seats", {"formula": "max", "multiplier": "100"}, reason="why", effective_from=CHANGE)
        for number, (days, value) in enumerate([(0, "5"), (0, "7"), (2, "6")]):
            payload = {"stripe_customer_id": "acme", "value": value}
            at = CHANGE + timedelta(days=days, hours=12)
            metering.record("seats", payload, timestamp=at, identifier=f"use-{number}")
        yield metering


@pytest.mark.parametrize("customer", ["acme", None])
@pytest.mark.parametrize("days", [1, 30, 40, 60, 4_000])
def test_summaries_are_those_of_totals(seats: Metering, customer: str | None, days: int) -> None:
    """Of ranges of a few windows, and of many, which begin with the first usage."""
    start = min(END - timedelta(days=days), datetime(2026, 11, 1, tzinfo=BERLIN))
    summaries = seats.summaries("seats", customer, start, END, window="day", timezone="Europe/Berlin")
    assert [summary.value for summary in summaries] == [700, 600]
    for summary in summaries:
        assert summary.value == seats.total("seats", customer, summary.start, summary.end).value


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("window", ["hour", "day", "month"])
def test_previews_of_rules_have_all_differences(seats: Metering, timezone: str, window: str) -> None:
    """Each quantity doubles. In New York, the first day of UTC starts in October."""
    candidate = seats.generations.build_candidate("seats", {"multiplier": "200"}, effective_from=CHANGE)
    differences = seats.generations.diff(candidate.number, window=window, timezone=timezone).differences
    quantities = [(difference.before, difference.after) for difference in differences]
    is_one_month = window == "month" and timezone != "America/New_York"
    assert quantities == ([(700, 1_400)] if is_one_month else [(700, 1_400), (600, 1_200)])


def test_previews_of_cancellations_have_the_quantities_of_the_rules(seats: Metering) -> None:
    """By month in Berlin: all usage is in November."""
    preview = seats.cancellations.preview("seats", identifier_prefix="use-1", timezone="Europe/Berlin")
    assert [(row.quantity, row.new_quantity) for row in preview.rows] == [(700, 600)]
