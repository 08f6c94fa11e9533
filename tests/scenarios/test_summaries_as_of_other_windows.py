"""Summaries as of a time when a meter had longer event time windows than now."""

from datetime import timedelta

import pytest
from tallybook.application import Metering

from ..notation import Clock, moment

DAY = moment("2026-01-10")
RANGE = DAY - timedelta(days=200), DAY + timedelta(days=200)


@pytest.mark.parametrize("then", ["hour", "day"])
@pytest.mark.parametrize("now", [None, "hour", "day"])
def test_a_window_is_in_the_summary_that_it_starts_in(
    metering: Metering, clock: Clock, then: str, now: str | None
) -> None:
    """Usage at 22:30 belongs to the day that starts at 0:00, also if it is stored by hours now."""
    clock.now = DAY + timedelta(days=2)
    metering.meters.configure("seats", formula="last", event_time_window=then)
    usage = {"stripe_customer_id": "acme", "value": "5"}
    metering.record("seats", usage, timestamp=DAY + timedelta(hours=22, minutes=30))
    position = metering.catch_up()
    summaries = metering.summaries("seats", "acme", *RANGE, window="hour")
    started = DAY + timedelta(hours=22 if then == "hour" else 0)
    assert [(summary.start, summary.count) for summary in summaries] == [(started, 1)]
    metering.rules.change("seats", {"event_time_window": now, "formula": "max"}, reason="a contract")
    for customer in ("acme", None):
        as_of = metering.summaries("seats", customer, *RANGE, window="hour", as_of=position)
        assert [(summary.start, summary.last) for summary in as_of] == [(started, 5)]
        change = metering.compare("seats", customer or "acme", *RANGE, since=position)
        assert (change.before.last, change.after.max) == (5, 5)
