"""A sealed ledger."""

from pathlib import Path

import pytest

from .ledgers import Sealed


@pytest.fixture
def unsealed(tmp_path: Path) -> Sealed:
    """A ledger of one meter, without a seal."""
    return Sealed(tmp_path)


@pytest.fixture
def sealed(unsealed: Sealed) -> Sealed:
    """A ledger with seals of 10 and of 20 events, and five events that aren't sealed yet."""
    for first, last in ((2, 10), (11, 20)):
        unsealed.record(first, last)
        unsealed.seal()
    unsealed.record(21, 25)
    return unsealed
