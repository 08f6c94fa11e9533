"""Connections above the limit: those that do nothing make room for those that have something to send."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.http.ops.connection import Connection, get_request, post_head
from tests.http.ops.protocol_server import LARGE_BODY, ControlledApp, serve_app
from tests.http.running_server import create_key, serve

MAX_CONNECTIONS = 5
EVENTS = "/v1/billing/meter_events"
QUICK, SLOW, LARGE = (get_request(path) for path in ("/quick", "/slow", "/large"))


@pytest.fixture
def app() -> Iterator[ControlledApp]:
    """An application that answers slow requests at the end of the test at the latest."""
    app = ControlledApp()
    yield app
    app.released.set()


def test_connections_without_a_key_make_room_in_the_order_in_which_they_started_to_wait(tmp_path: Path) -> None:
    """Without a request, with an incomplete header or with an incomplete body. One with a valid key stays."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    listing = get_request("/v1/billing/meters", f"Authorization: Bearer {create_key(url, 'read')}")
    with serve(url, TALLYBOOK_MAX_CONNECTIONS=str(MAX_CONNECTIONS)) as server, ExitStack() as opened:

        def connect(request: str) -> Connection:
            return opened.enter_context(Connection(server)).send(request)

        keyed = connect(listing)
        assert keyed.read_response().status == 200
        answered = connect(get_request("/livez"))
        assert answered.read_response().status == 200
        incomplete = [connect(""), connect("GET /livez HT"), connect(post_head(EVENTS, "Content-Length: 9"))]
        for waiting in (answered, *incomplete):
            assert connect(get_request("/livez")).read_response().status == 200
            assert waiting.is_closed()
        assert keyed.send(listing).read_response().status == 200


def test_a_thousand_idle_connections_delay_no_client(app: ControlledApp) -> None:
    """Each new connection is answered at once, whether it stays or not."""
    with serve_app(app, max_connections=MAX_CONNECTIONS) as address, ExitStack() as opened:
        for _ in range(1_000 // MAX_CONNECTIONS):
            for _ in range(MAX_CONNECTIONS):
                opened.enter_context(Connection(address))
            with Connection(address) as connection:
                assert connection.send(QUICK).read_response().status == 200
            opened.close()


def test_connections_with_a_key_make_room_for_others_too(app: ControlledApp) -> None:
    """If no connection without one waits."""
    keyed = get_request("/quick", "Authorization: Bearer key")
    with serve_app(app, max_connections=MAX_CONNECTIONS) as address, ExitStack() as opened:
        connections = [opened.enter_context(Connection(address)) for _ in range(MAX_CONNECTIONS)]
        for connection in connections:
            assert connection.send(keyed).read_response().status == 200
        for connection in connections[:2]:
            assert opened.enter_context(Connection(address)).send(keyed).read_response().status == 200
            assert connection.is_closed()
        assert connections[2].send(keyed).read_response().status == 200


def test_an_unread_response_takes_no_place_without_a_key(app: ControlledApp) -> None:
    """A client with a key may be slow."""
    with serve_app(app, max_connections=2) as address, ExitStack() as opened:
        stalled = opened.enter_context(Connection(address)).send(LARGE)
        slow = opened.enter_context(Connection(address)).send(get_request("/large", "Authorization: Bearer key"))
        assert stalled.socket.recv(1, socket.MSG_PEEK) == slow.socket.recv(1, socket.MSG_PEEK) == b"H"
        for _ in range(2):
            with Connection(address) as connection:
                assert connection.send(QUICK).read_response().status == 200
        assert slow.read_response().body.decode() == LARGE_BODY
        assert stalled.drain() < len(LARGE_BODY)


def test_requests_above_the_limit_get_503(app: ControlledApp) -> None:
    """If all connections have a request in progress. Above twice the limit connections are closed."""
    with serve_app(app, max_connections=MAX_CONNECTIONS) as address, ExitStack() as opened:
        busy = [opened.enter_context(Connection(address)).send(SLOW) for _ in range(MAX_CONNECTIONS)]
        app.wait_until_started(MAX_CONNECTIONS)
        with Connection(address) as connection:
            response = connection.send(get_request("/v2/billing/meter_events")).read_response()
            assert (response.status, response.error["code"]) == (503, "too_many_connections")
            assert (response.headers["retry-after"], response.headers["connection"]) == ("1", "close")
            assert connection.is_closed()
        for _ in range(MAX_CONNECTIONS):
            opened.enter_context(Connection(address))
        with Connection(address) as one_more:
            assert one_more.is_closed()
        app.released.set()
        assert [connection.read_response().status for connection in busy] == [200] * MAX_CONNECTIONS
        assert opened.enter_context(Connection(address)).send(QUICK).read_response().status == 200
