"""A ledger in a file, in the notation of the scenarios, and a server for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tallybook.application import Metering

from ...notation import Clock, Ledger
from .api_client import ApiClient, serve_api


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def metering(url: str, clock: Clock) -> Iterator[Metering]:
    """The ledger of the server, used directly."""
    with Metering.open(url, clock=clock) as opened:
        yield opened


@pytest.fixture
def ledger(metering: Metering, clock: Clock) -> Ledger:
    return Ledger(metering, clock)


@pytest.fixture
def api(url: str, metering: Metering, clock: Clock) -> Iterator[ApiClient]:
    """A client of the server."""
    with serve_api(url, metering, clock) as client:
        yield client
