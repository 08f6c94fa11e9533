"""Fixtures: a broker, and a ledger with a meter on each store."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tallybook.application import Metering

from .broker import NOW, Broker, running_broker

_numbers = count(1)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A running broker. It takes a processor's whole time, also without messages, so it ends with each file."""
    with running_broker() as running:
        yield running


@pytest.fixture
def topic() -> str:
    """The name of a topic that no other test uses."""
    return f"usage-{next(_numbers)}"


@pytest.fixture
def metering(tmp_path: Path) -> Iterator[Metering]:
    """A SQLite ledger with a meter."""
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}", clock=lambda: NOW) as opened:
        configure(opened)
        yield opened


def configure(metering: Metering) -> None:
    """Configure the meter of the usage."""
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
