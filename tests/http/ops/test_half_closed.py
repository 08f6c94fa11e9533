"""A client that has sent its requests may close its sending side (shutdown), and reads its responses."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.http.ops.connection import Connection, get_request, post_head
from tests.http.ops.protocol_server import ControlledApp, serve_app
from tests.waiting import wait_until

QUICK, SLOW = get_request("/quick"), get_request("/slow")
POST = post_head("/quick", "Content-Length: 4") + "body"
OLD_SLOW = SLOW.replace("HTTP/1.1", "HTTP/1.0")


@pytest.fixture
def app() -> ControlledApp:
    """An application with a slow path."""
    return ControlledApp()


@pytest.fixture
def server(app: ControlledApp) -> Iterator[Any]:
    """A server of the application."""
    with serve_app(app) as address:
        yield address
        app.released.set()


def half_closed(server: Any, *requests: str) -> Connection:
    """Return a connection that has sent requests and sends nothing more."""
    connection = Connection(server).send(*requests)
    connection.socket.shutdown(socket.SHUT_WR)
    return connection


@pytest.mark.parametrize("requests", [(QUICK,), (POST,), (QUICK, POST, QUICK), (POST, POST)], ids=len)
def test_complete_requests_are_answered(server: Any, requests: tuple[str, ...]) -> None:
    """The connection is closed after the last response."""
    with half_closed(server, *requests) as connection:
        for request in requests:
            response = connection.read_response()
            assert (response.status, response.body) == (200, b"GET " if request is QUICK else b"POST body")
        assert connection.is_closed()


@pytest.mark.parametrize("incomplete", ["", "GET / HT", post_head("/quick", "Content-Length: 4") + "bo"])
def test_an_incomplete_request_is_not_answered(server: Any, incomplete: str) -> None:
    """Those before it are."""
    with half_closed(server, incomplete) as connection:
        assert connection.is_closed()
    with half_closed(server, QUICK, incomplete) as connection:
        assert connection.read_response().status == 200
        assert connection.is_closed()


def test_a_response_that_takes_long_comes_after_an_interim_response(app: ControlledApp, server: Any) -> None:
    """It shows the server whether a client is there, and clients skip it."""
    with half_closed(server, SLOW) as connection:
        assert connection.read_interim_response() == b"HTTP/1.1 100 Continue"
        app.released.set()
        assert connection.read_response().status == 200
        assert connection.is_closed()
    assert app.abandoned == 0


def test_a_change_is_answered_without_an_interim_response(app: ControlledApp, server: Any) -> None:
    """It is executed even if nobody waits for its response."""
    with half_closed(server, post_head("/slow", "Content-Length: 0")) as connection:
        connection.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.socket.recv(1)
        app.released.set()
        assert connection.read_response().status == 200


@pytest.mark.parametrize("request_text", [SLOW, OLD_SLOW], ids=["HTTP/1.1", "HTTP/1.0"])
def test_a_query_whose_client_has_closed_the_connection_is_abandoned(
    app: ControlledApp, server: Any, request_text: str
) -> None:
    """A closed connection looks half-closed at first."""
    with Connection(server).send(request_text):
        app.wait_until_started(1)
    wait_until(lambda: app.abandoned == 1)
