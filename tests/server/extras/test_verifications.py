"""Verification over HTTP: what matches does, and what was tampered with is found."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from ...notation import Ledger
from .asking import Asking

VERIFICATION = "/v1/billing/verification"


def test_all_matches(ledger: Ledger, asking: Asking) -> None:
    """Each table is told with its digest, and up to where all was compared."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5
        close  acme calls 10 11  at=11T02:00
    """)
    found = asking.post(VERIFICATION)
    assert (found["object"], found["matches"], found["first_mismatch"]) == ("billing.verification", True, None)
    assert (found["position"], found["closed_periods"], found["differing_periods"]) == (ledger.position(), 1, [])
    tables = {table["table"]: table for table in found["tables"]}
    assert tables["usage"]["rows"] >= 1
    assert all(table["matches"] and table["digest"] == table["expected_digest"] for table in found["tables"])


def test_a_row_that_was_changed_is_found(ledger: Ledger, asking: Asking, tmp_path: Path) -> None:
    """With its table and key, as it is found and as it is expected."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5
    """)
    ledger.position()
    with closing(sqlite3.connect(tmp_path / "usage.db.views")) as views, views:
        views.execute("UPDATE customers_1 SET name = 'bolt' WHERE customer = 1")
    found = asking.post(VERIFICATION)
    assert not found["matches"]
    assert found["first_mismatch"]["table"] == "customers"
    assert "bolt" in found["first_mismatch"]["found"]
    assert "acme" in found["first_mismatch"]["expected"]
    assert [table["table"] for table in found["tables"] if not table["matches"]] == ["customers"]


def test_a_closed_period_that_was_changed_is_found(ledger: Ledger, asking: Asking, tmp_path: Path) -> None:
    """By its id."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5
        close  acme calls 09 10  at=11T02:00
        close  acme calls 10 11
    """)
    with closing(sqlite3.connect(tmp_path / "usage.db")) as file, file:
        for (trigger,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {trigger}")
        position, state = file.execute("SELECT max(position), state FROM stored_events").fetchone()
        changed = json.dumps({**json.loads(state), "quantity": "6"}, separators=(",", ":")).encode()
        file.execute("UPDATE stored_events SET state = ? WHERE position = ?", (changed, position))
    found = asking.post(VERIFICATION)
    assert (found["matches"], found["first_mismatch"], found["closed_periods"]) == (False, None, 2)
    (period,) = found["differing_periods"]
    assert asking.get(f"/v1/billing/closed_periods/{period}")["aggregated_value"] == 6


def test_who_may_only_read_does_not_verify(asking: Asking) -> None:
    """It takes long."""
    assert asking.refused("POST", VERIFICATION, "read") == (403, "more_permissions_required", "")
    assert asking.refused("POST", VERIFICATION, limit=1) == (400, "parameter_unknown", "limit")
