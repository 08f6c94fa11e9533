"""Ledgers to checkpoint and to tamper with."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from tallybook.application import Metering
from tallybook.domain.aggregate import Aggregate

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
TRIGGERS = (
    "stored_events_are_never_changed",
    "stored_events_are_never_deleted",
    "stored_events_are_only_appended",
    "recorded_times_never_decrease",
)


def _unchanged(event: Aggregate.Event) -> Aggregate.Event:
    return event


class CheckpointedLedger:
    """A ledger file with a checkpoint file in another folder, and an intruder who can change the ledger."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "usage.db"
        self.checkpoints = folder / "other" / "usage.checkpoints"
        self.checkpoints.parent.mkdir()
        self.leaves = self.checkpoints.with_name("usage.checkpoints.leaves")
        # As an earlier version stored it, without the user of the operating system: so the root is always the same.
        without_author = patch("tallybook.application.ledger.ledger.with_author", _unchanged)
        with self.metering() as metering, without_author:
            metering.meters.configure("tokens", customer_key="customer", value_key="tokens")

    @property
    def url(self) -> str:
        """The URL of the ledger."""
        return f"sqlite:///{self.ledger}"

    def metering(self) -> Metering:
        """Open the ledger with a fixed clock."""
        return Metering.open(self.url, clock=lambda: NOW)

    def record(self, first: int, last: int) -> None:
        """Record events, so that `req-7` is at position 7."""
        with self.metering() as metering:
            metering.record_many(
                {"event_name": "tokens", "identifier": f"req-{n}", "payload": {"customer": "acme", "tokens": f"{n}"}}
                for n in range(first, last + 1)
            )

    def create_checkpoint(self) -> None:
        """Append a checkpoint."""
        with self.metering() as metering:
            metering.checkpoints.create(self.checkpoints)

    def tamper(self, *statements: str, with_values: Iterable[object] = ()) -> None:
        """Run statements on the file as an intruder does: remove the triggers and checks first."""
        values = tuple(with_values)
        with closing(sqlite3.connect(self.ledger, isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for trigger in TRIGGERS:
                connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            for statement in statements:
                connection.execute(statement, values)
