"""Verification over HTTP: matching data passes, and changed data is found."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from ...notation import Ledger, moment
from .api_client import ApiClient

VERIFICATION = "/v1/billing/verification"


def test_all_matches(ledger: Ledger, api: ApiClient) -> None:
    """Each table has its digest, and the response has the verified position."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5
        close  acme calls 10 11  at=11T02:00
    """)
    verification = api.post(VERIFICATION)
    assert (verification["object"], verification["matches"], verification["first_mismatch"]) == (
        "billing.verification",
        True,
        None,
    )
    assert (verification["position"], verification["closed_periods"], verification["differing_periods"]) == (
        ledger.position(),
        1,
        [],
    )
    tables = {table["table"]: table for table in verification["tables"]}
    assert tables["usage"]["rows"] >= 1
    assert all(table["matches"] and table["digest"] == table["expected_digest"] for table in verification["tables"])


def test_a_changed_row_is_detected(ledger: Ledger, api: ApiClient, tmp_path: Path) -> None:
    """With its table and key, and the found and expected values."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5
    """)
    ledger.position()
    with closing(sqlite3.connect(tmp_path / "usage.db.read-models")) as connection, connection:
        connection.execute("UPDATE customers_1 SET name = 'bolt' WHERE customer = 1")
    verification = api.post(VERIFICATION)
    assert not verification["matches"]
    assert verification["first_mismatch"]["table"] == "customers"
    assert "bolt" in verification["first_mismatch"]["found"]
    assert "acme" in verification["first_mismatch"]["expected"]
    assert [table["table"] for table in verification["tables"] if not table["matches"]] == ["customers"]


def test_a_changed_closed_period_is_detected(ledger: Ledger, api: ApiClient, tmp_path: Path) -> None:
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
        changed_state = json.dumps({**json.loads(state), "quantity": "6"}, separators=(",", ":")).encode()
        file.execute("UPDATE stored_events SET state = ? WHERE position = ?", (changed_state, position))
    verification = api.post(VERIFICATION)
    assert (verification["matches"], verification["first_mismatch"], verification["closed_periods"]) == (False, None, 2)
    (period,) = verification["differing_periods"]
    assert api.get(f"/v1/billing/closed_periods/{period}")["aggregated_value"] == 6


def test_a_changed_billing_run_is_detected(ledger: Ledger, api: ApiClient, tmp_path: Path) -> None:
    """By its id."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5
        close  acme calls 09 10  at=11T02:00
    """)
    ledger.metering.periods.run(moment("10"), moment("11"))
    with closing(sqlite3.connect(tmp_path / "usage.db")) as file, file:
        for (trigger,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {trigger}")
        file.execute(
            'UPDATE stored_events SET state = CAST(replace(state, \'"usage_sum":"5"\', \'"usage_sum":"4"\') AS BLOB)'
            " WHERE topic = 'BillingRunClosed'"
        )
    verification = api.post(VERIFICATION)
    assert (verification["matches"], verification["billing_runs"]) == (False, 1)
    (run,) = verification["differing_billing_runs"]
    assert api.get(f"/v1/billing/billing_runs/{run}")["id"] == run


def test_a_read_key_may_not_verify(api: ApiClient) -> None:
    """Because it takes long."""
    assert api.error("POST", VERIFICATION, "read") == (403, "more_permissions_required", "")
    assert api.error("POST", VERIFICATION, limit=1) == (400, "parameter_unknown", "limit")
