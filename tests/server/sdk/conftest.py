"""A server for each module, and Stripe's client."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from stripe import StripeClient

from .place import Place, place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server in a process of its own."""
    with place(tmp_path_factory.mktemp("server")) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Place) -> StripeClient:
    """Stripe's client, with a key that may do everything."""
    return server.client()


@pytest.fixture
def event_name(request: pytest.FixtureRequest) -> str:
    """An event name that no other test has."""
    return f"{request.node.originalname[:60]}_{sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
