"""A ledger in a file, told in the scenarios' notation, and a server of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tallybook.application import Metering

from ...notation import Clock, Ledger
from .asking import Asking, served


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def metering(url: str, clock: Clock) -> Iterator[Metering]:
    """The ledger of the server, asked directly."""
    with Metering.open(url, clock=clock) as opened:
        yield opened


@pytest.fixture
def ledger(metering: Metering, clock: Clock) -> Ledger:
    return Ledger(metering, clock)


@pytest.fixture
def asking(url: str, metering: Metering, clock: Clock) -> Iterator[Asking]:
    """Asks a server of the ledger."""
    with served(url, metering, clock) as asked:
        yield asked
