"""What the tests of webhooks share: receivers, and a server with an admin's key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stripe import StripeClient
from tallybook.application import Metering
from tallybook.application.server.desk import Desk

from tests.notation import Clock
from tests.server.serving import Serving, create_key

from .desks import desk_of
from .receiver import Receiver, receiving
from .served import quick_server, sdk


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver."""
    with receiving() as one:
        yield one


@pytest.fixture
def another_receiver() -> Iterator[Receiver]:
    """Another receiver."""
    with receiving() as one:
        yield one


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """Where the server's ledger is."""
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def key(ledger_url: str) -> str:
    """An admin's key."""
    return create_key(ledger_url, "admin")


@pytest.fixture
def serving(ledger_url: str, key: str) -> Iterator[Serving]:
    """A server."""
    assert key
    with quick_server(ledger_url) as one:
        yield one


@pytest.fixture
def client(serving: Serving, key: str) -> StripeClient:
    """Stripe's client, with the admin's key."""
    return sdk(serving, key)


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StripeClient]:
    """An admin's client of a server that tests share which change nothing."""
    ledger = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'usage.db'}"
    key = create_key(ledger, "admin")
    with quick_server(ledger) as one:
        yield sdk(one, key)


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Desk]:
    """A desk with a meter, on each store."""
    if request.param == "sqlite":
        opened = Metering.open("sqlite://", clock=clock)
    else:
        opened = Metering.open(request.getfixturevalue("postgres").fresh_url(), clock=clock)
    with opened as metering:
        metering.configure_meter("tokens", customer_key="customer")
        yield desk_of(metering)
