"""Fixtures of the webhook tests: receivers, and a server with an admin key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stripe import StripeClient
from tallybook.application import Metering
from tallybook.application.interfaces.http.ledgers import ServedLedger

from tests.http.running_server import RunningServer, create_key
from tests.notation import Clock

from .ledgers import serve_ledger
from .receiver import Receiver, run_receiver
from .webhook_server import quick_server, stripe_client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver."""
    with run_receiver() as running:
        yield running


@pytest.fixture
def another_receiver() -> Iterator[Receiver]:
    """Another receiver."""
    with run_receiver() as running:
        yield running


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """The URL of the server's ledger."""
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def key(ledger_url: str) -> str:
    """An admin key."""
    return create_key(ledger_url, "admin")


@pytest.fixture
def server(ledger_url: str, key: str) -> Iterator[RunningServer]:
    """A server."""
    assert key
    with quick_server(ledger_url) as running:
        yield running


@pytest.fixture
def client(server: RunningServer, key: str) -> StripeClient:
    """Stripe's client, with the admin key."""
    return stripe_client(server, key)


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StripeClient]:
    """An admin client of a server that is shared by tests that change nothing."""
    ledger = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'usage.db'}"
    key = create_key(ledger, "admin")
    with quick_server(ledger) as running:
        yield stripe_client(running, key)


@pytest.fixture(params=["sqlite", "postgresql"])
def served_ledger(request: pytest.FixtureRequest, clock: Clock) -> Iterator[ServedLedger]:
    """A served ledger with a meter, on each store."""
    if request.param == "sqlite":
        opened = Metering.open("sqlite://", clock=clock)
    else:
        opened = Metering.open(request.getfixturevalue("postgres").fresh_url(), clock=clock)
    with opened as metering:
        metering.meters.configure("tokens", customer_key="customer")
        yield serve_ledger(metering)
