"""Fixtures of the tests of recording: a ledger in memory, and a key."""

from collections.abc import Iterator

import pytest
from tallybook.application import Metering


@pytest.fixture
def metering() -> Iterator[Metering]:
    """A ledger with a meter."""
    with Metering.open("sqlite://") as opened:
        opened.meters.configure("tokens")
        yield opened


@pytest.fixture
def key(metering: Metering) -> str:
    """A key that may record."""
    return metering.access_keys.create(["record"]).key
