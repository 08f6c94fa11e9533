"""What was done and not answered, as whoever asked was cut off: the same request again settles it."""

from typing import Any

import pytest
from tallybook.application.server.idempotency import KeptAnswers

from ...notation import Ledger
from .asking import Asking

CUT_OFF: dict[str, Any] = {"headers": {"Idempotency-Key": "cut-off"}}


@pytest.fixture
def power_cuts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Cuts the power after what a request asks is done, and before its answer is kept; gives it back."""

    def cut(_: object, *args: object) -> None:
        raise RuntimeError("The power is cut.")

    def cuts(asking: Asking, method: str, path: str, **given: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(KeptAnswers, "row", cut)
            assert asking.send(method, path, **CUT_OFF, **given).status_code == 500

    return cuts


def test_rules_that_were_put_in_force(ledger: Ledger, asking: Asking, power_cuts: Any) -> None:
    """They are in force: once, and with the meter in answer."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    path = f"{asking.meter('calls')}/rules"
    rules: dict[str, Any] = {"event_time_window": "day", "reason": "by day"}
    power_cuts(asking, "POST", path, **rules)
    again = asking.post(path, **CUT_OFF, **rules)
    assert (again["event_time_window"], again["revision"]) == ("day", 2)
    assert asking.post(path, **CUT_OFF, **rules) == again


def test_a_period_that_was_closed_and_reopened(ledger: Ledger, asking: Asking, power_cuts: Any) -> None:
    """Each is done once; a reopening on another word is another one, and refused."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
        close  acme calls 10 11  at=11T02:00
    """)
    (period,) = asking.get("/v1/billing/closed_periods")["data"]
    path = f"/v1/billing/closed_periods/{period['id']}/reopen"
    power_cuts(asking, "POST", path, reason="late")
    assert asking.refused("POST", path, reason="late") == (400, "period_not_closed", "id")
    again = asking.post(path, **CUT_OFF, reason="late")
    assert (again["status"], again["reopening"]["reason"]) == ("reopened", "late")


def test_a_generation_that_was_deleted(ledger: Ledger, asking: Asking, power_cuts: Any) -> None:
    """It is gone, as was asked."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 5
    """)
    number = asking.post(f"{asking.meter('calls')}/rules_preview", event_time_window="day")["generation"]
    path = f"/v1/billing/projection/generations/{number}"
    power_cuts(asking, "DELETE", path)
    assert asking.refused("DELETE", path) == (404, "resource_missing", "generation")
    assert asking.send("DELETE", path, **CUT_OFF).json()["deleted"] is True
