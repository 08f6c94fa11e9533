"""Expired entries are deleted, and nothing else."""

from datetime import timedelta
from io import BytesIO

import pytest
from tallybook.application import KeyValueEntry
from tallybook.application.interfaces.http.ledgers import ServedLedger
from tallybook.application.interfaces.http.retention import RETENTION_BY_KIND, retention_job
from tallybook.application.jobs.job import JobRun
from tallybook.application.usage_import.uploads import UploadStore
from tallybook.domain.timestamps import to_microseconds

from tests.http.webhooks.ledgers import record_rejected

SECOND = 1_000_000


def run_once(served_ledger: ServedLedger) -> None:
    """Run the retention once."""
    retention_job(served_ledger, timedelta(minutes=1)).run(JobRun())


@pytest.mark.parametrize("kind", RETENTION_BY_KIND)
def test_entries_stay_for_their_retention(served_ledger: ServedLedger, kind: str) -> None:
    """To the microsecond, for any number of entries."""
    edge = to_microseconds(served_ledger.now() - RETENTION_BY_KIND[kind])
    old = [KeyValueEntry(kind, f"old {number}", edge - number, b"") for number in range(1_100)]
    served_ledger.key_values.apply(insert=[*old, KeyValueEntry(kind, "new", edge + 1, b"")])
    run_once(served_ledger)
    assert [row.key for row in served_ledger.key_values.scan(kind, limit=10)] == ["new"]


def test_uploads_are_deleted_with_their_contents(served_ledger: ServedLedger) -> None:
    """A day after they were sent, also if nobody sends another one."""
    uploads = UploadStore(served_ledger.key_values, lambda: served_ledger.now() - timedelta(days=1, seconds=1))
    uploads.add("usage.csv", BytesIO(b"customer,tokens"))
    run_once(served_ledger)
    assert not any(served_ledger.key_values.scan(kind, limit=10) for kind in ("import upload", "import part"))


def test_pending_entries_stay_forever(served_ledger: ServedLedger) -> None:
    """Unreported events, endpoints, and their deliveries."""
    kinds = ("unreported", "webhook_endpoint", "pending/we_1", "meter_changes_reached")
    served_ledger.key_values.apply(insert=[KeyValueEntry(kind, "a", 0, b"") for kind in kinds])
    record_rejected(served_ledger, "b")
    run_once(served_ledger)
    assert all("a" in served_ledger.key_values.get(kind, ["a"]) for kind in kinds)
    assert len(served_ledger.key_values.scan("refused_event", limit=10)) == 1
