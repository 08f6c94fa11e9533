"""A server for each module, and Stripe's client."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from stripe import StripeClient

from .server_fixture import SdkServer, sdk_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkServer]:
    """A server in its own process."""
    with sdk_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: SdkServer) -> StripeClient:
    """Stripe's client, with a key of all scopes."""
    return server.client()


@pytest.fixture
def event_name(request: pytest.FixtureRequest) -> str:
    """An event name that no other test uses."""
    return f"{request.node.originalname[:60]}_{sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
