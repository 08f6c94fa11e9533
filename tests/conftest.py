"""What the tests share: a ledger in memory, a clock that stands, a PostgreSQL server, and how hard the properties are
tried."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tallybook.application import Metering

from .notation import Clock, Ledger, moment
from .postgres import Database, database

settings.register_profile(
    "tallybook",
    deadline=None,
    max_examples=40,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tallybook")


@pytest.fixture
def clock() -> Clock:
    """A clock at the beginning of 2026; the reports of a scenario move it on."""
    return Clock(moment("2026-01-01T00:00"))


@pytest.fixture
def metering(clock: Clock) -> Iterator[Metering]:
    """An empty ledger in memory."""
    with Metering.open("sqlite://", clock=clock) as opened:
        yield opened


@pytest.fixture
def ledger(metering: Metering, clock: Clock) -> Ledger:
    """An empty ledger, told and asked in the scenarios' notation."""
    return Ledger(metering, clock)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Database]:
    """A database on a PostgreSQL server that all tests share, started with the first that asks for it."""
    with database() as shared:
        yield shared
