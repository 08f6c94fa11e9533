"""Fixtures: a ledger with and without checkpoints."""

from pathlib import Path

import pytest

from .ledgers import CheckpointedLedger


@pytest.fixture
def empty_ledger(tmp_path: Path) -> CheckpointedLedger:
    """Return a ledger with one meter, without a checkpoint."""
    return CheckpointedLedger(tmp_path)


@pytest.fixture
def checkpointed_ledger(empty_ledger: CheckpointedLedger) -> CheckpointedLedger:
    """Return a ledger with checkpoints of 10 and 20 events, and five events after them."""
    for first, last in ((2, 10), (11, 20)):
        empty_ledger.record(first, last)
        empty_ledger.create_checkpoint()
    empty_ledger.record(21, 25)
    return empty_ledger
