"""How many statements a quota check executes on SQLite: each takes longer in Python than in the database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallybook.application import Metering

from ..faults.observe import Statement
from ..faults.sqlite_statements import observe_sqlite

pytestmark = pytest.mark.fast
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 10, 30, tzinfo=UTC)


class StatementCounter:
    """Counts statements, other than ROLLBACK, which the connection executes without a cursor."""

    def __init__(self) -> None:
        self.count = 0

    def before(self, statement: Statement) -> None:
        """Do nothing before a statement."""

    def after(self, statement: Statement) -> None:
        """Count a statement."""
        self.count += 1


def test_a_quota_check_executes_few_statements(tmp_path: Path) -> None:
    """Record an event, read the total that has it, and read it once more."""
    counter, counts = StatementCounter(), list[list[int]]()
    with observe_sqlite(counter), Metering.open(f"sqlite:///{tmp_path}/usage.db", clock=lambda: NOW) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        for number in range(3):
            payload, at = {"customer": "acme", "value": "1"}, OCTOBER[0] + timedelta(hours=number)
            recorded_from = counter.count
            metering.record("tokens", payload, identifier=f"use-{number}", timestamp=at)
            projected_from = counter.count
            assert metering.total("tokens", "acme", *OCTOBER).count == number + 1
            read_from = counter.count
            metering.total("tokens", "acme", *OCTOBER)
            counts.append([projected_from - recorded_from, read_from - projected_from, counter.count - read_from])
    assert counts[-1] == [5, 16, 6]
