"""What an adjustment with many settlements costs: each is a step of its roll-forward, and nothing else reads them."""

from typing import Any

import pytest
from tallybook.application import Metering
from tallybook.projections.usage_view import UsageView

from ..notation import Ledger, moment

DAY = moment("10"), moment("11")
SETTLEMENTS = 8


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows with each reading of the changes of a period."""
    reads: list[Any] = []
    changes = UsageView.changes

    def counted_changes(*args: Any, **kwargs: Any) -> Any:
        reads.append(args)
        return changes(*args, **kwargs)

    monkeypatch.setattr(UsageView, "changes", counted_changes)
    return reads


def settle_often(ledger: Ledger) -> None:
    """Close a period and settle an adjustment of it some times; the last one is open."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T01:00
    """)
    for number in range(SETTLEMENTS):
        ledger.given(f"""
            11:00  acme calls 2
            settle  acme calls 10 11  document=INV-{number}
        """)
    ledger.given("11:00  acme calls 1")


def test_lines_and_settlements_read_the_usage_once(metering: Metering, ledger: Ledger, reads: list[Any]) -> None:
    """They need no roll-forward from the closing, so many settlements don't make them slow."""
    settle_often(ledger)
    reads.clear()
    assert ledger.invoice_lines("11", "12") == ["acme calls 10: +1, billed 21"]
    metering.periods.settle("calls", "acme", *DAY, document="INV-9")
    assert len(reads) == 2


def test_a_settled_period_is_not_read_step_by_step(metering: Metering, ledger: Ledger, reads: list[Any]) -> None:
    """It has no adjustment, unless settled ones are asked for."""
    settle_often(ledger)
    metering.periods.settle("calls", "acme", *DAY, document="INV-9")
    reads.clear()
    assert metering.periods.adjustments("calls") == []
    assert len(reads) == 1
    (adjustment,) = metering.periods.adjustments("calls", settled=True)
    assert len(reads) == 1 + SETTLEMENTS + 2
    assert (adjustment.roll_forward.frozen, adjustment.roll_forward.late, adjustment.roll_forward.now) == (5, 17, 22)
