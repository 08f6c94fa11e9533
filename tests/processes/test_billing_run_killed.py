"""A billing run that is killed at any moment is resumed without a double or a missing closing."""

import random
from collections import Counter

from tallybook.application import Metering

from .conftest import Start
from .test_killed import KILL_COUNT, kill_after
from .usage import START, open_ledger

CUSTOMERS, CUSTOMERS_PER_BATCH = 300, 5
PERIOD = START, START.replace(day=2)


def record_customers(metering: Metering) -> None:
    """Record a meter event of each customer."""
    metering.record_many(
        {"event_name": "tokens", "timestamp": START, "payload": {"customer": f"c{number}", "value": str(number)}}
        for number in range(CUSTOMERS)
    )


def test_a_killed_run_is_resumed_without_double_or_missing_closings(start: Start, url: str) -> None:
    """Each kill is at a random moment of the resumed run; usage that is recorded in between is owed, not closed."""
    rng = random.Random(18)
    with open_ledger(url) as metering:
        record_customers(metering)
        used = metering.total("tokens", None, *PERIOD).sum
        late = 0
        for _ in range(KILL_COUNT):
            process = start("billing_run", url, CUSTOMERS_PER_BATCH)
            kill_after(process, 1 + rng.randrange(60 // KILL_COUNT + 1), rng.random() * 0.02)
            if metering.periods.runs():
                metering.record("tokens", {"customer": f"c{late}", "value": "7"}, timestamp=START)
                late += 1
        result = metering.periods.run(*PERIOD)
        (total,) = result.run.meters
        assert (result.run.number, total.customers, total.sum, total.is_balanced) == (1, CUSTOMERS, used, True)
        closed = metering.periods.list("tokens", reopened=True)
        assert set(Counter(period.customer for period in closed).values()) == {1}
        assert sum(period.sum for period in closed) == used
        assert {period.position for period in closed} == {result.run.position}
        assert sum(found.difference for found in metering.periods.adjustments("tokens")) == 7 * late
        assert metering.periods.status(*PERIOD).is_complete
        assert metering.verify().is_equal
