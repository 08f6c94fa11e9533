"""The recording role sends a meter event again whose content has left the ledger for the archive."""

import shutil
from datetime import timedelta
from pathlib import Path

from tallybook.application import AcceptancePolicy, Metering, PostgresSettings

from tests.archive.pruning import History
from tests.docs.roles import open_as, record, run_projection

LIFTED = AcceptancePolicy(max_age=None, cancel_window=None)


def test_the_recorder_role_sends_a_pruned_event_again(roles: None, tmp_path: Path) -> None:
    """It may not read the ledger, and is told by the archive whether the event is the same."""
    history = History(tmp_path)
    with open_as("api") as metering:
        record(metering, "old")
        (before,) = metering.record_many([event("old")])
    settings = PostgresSettings(parameters={"dbname": "billing", "user": "billing"})
    with run_projection(), Metering.open(settings, policy=LIFTED) as owner:
        owner.record("tokens", {"customer": "acme", "tokens": "1"})
        history.archive_all(owner)
        assert history.prune(owner, keep=timedelta(0)).events > 1
    with open_as("api") as metering:
        assert metering.record_many([event("old")]) == [before]
        assert metering.record_many([event("old", "9")])[0].outcome == "conflict"
    shutil.rmtree(history.archive)
    with open_as("api") as metering:
        receipts = metering.record_many([event("old"), event("new")])
        assert [str(receipt.outcome) for receipt in receipts] == ["rejected", "accepted"]


def event(identifier: str, tokens: str = "10") -> dict[str, object]:
    """Return a meter event."""
    return {"event_name": "tokens", "identifier": identifier, "payload": {"customer": "acme", "tokens": tokens}}
