"""A checkpointed ledger."""

from pathlib import Path

import pytest

from .ledgers import CheckpointedLedger


@pytest.fixture
def empty_ledger(tmp_path: Path) -> CheckpointedLedger:
    """A ledger of one meter, without a checkpoint."""
    return CheckpointedLedger(tmp_path)


@pytest.fixture
def checkpointed_ledger(empty_ledger: CheckpointedLedger) -> CheckpointedLedger:
    """A ledger with checkpoints of 10 and of 20 events, and five events that aren't checkpointed yet."""
    for first, last in ((2, 10), (11, 20)):
        empty_ledger.record(first, last)
        empty_ledger.create_checkpoint()
    empty_ledger.record(21, 25)
    return empty_ledger
