"""Receivers whose responses have no end: a delivery has a deadline, and the head of its response a maximum size."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import repeat

import pytest
from tallybook.application.interfaces.http.webhooks.cloud_events import Message
from tallybook.application.interfaces.http.webhooks.delivery_client import DeliveryClient, DeliveryResult
from tallybook.application.interfaces.http.webhooks.endpoints import Endpoint
from tallybook.application.interfaces.http.webhooks.response_head import MAX_HEAD_BYTES

NOW = datetime(2026, 10, 1, tzinfo=UTC)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def responding(parts: Iterator[bytes], wrap: Callable[[socket.socket], socket.socket]) -> Generator[int]:
    """Run a receiver that answers one request with these parts until the client disconnects, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def respond() -> None:
            connection, _ = listener.accept()
            with suppress(OSError), wrap(connection) as client:
                client.recv(65_536)
                for part in parts:
                    client.sendall(part)

        thread = threading.Thread(target=respond)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def deliver(
    parts: Iterator[bytes],
    timeout_seconds: float,
    *,
    scheme: str = "http",
    wrap: Callable[[socket.socket], socket.socket] = lambda connection: connection,
    ssl_context: ssl.SSLContext | None = None,
) -> DeliveryResult:
    """Return the result of a delivery to a receiver that answers with these parts."""

    async def send(port: int) -> DeliveryResult:
        url = f"{scheme}://127.0.0.1:{port}/hooks"
        endpoint = Endpoint(id="we_1", url=url, enabled_events=("*",), created=0, secret="whsec_1")
        async with DeliveryClient([ip_network("127.0.0.0/8")], ssl_context=ssl_context) as client:
            return await client.send(endpoint, Message(b"{}", {}), NOW, timeout_seconds)

    with responding(parts, wrap) as port:
        return asyncio.run(send(port))


@pytest.mark.parametrize(
    "parts",
    [repeat(CONTINUE * 1_000), iter([OK, *[b"A: b\r\n"] * 100_000]), iter([OK + b"A: ", *[b"x" * 1_000] * 100])],
    ids=["interim responses", "header lines", "a header line"],
)
def test_an_endless_head_is_cut_off(parts: Iterator[bytes]) -> None:
    """Long before the deadline."""
    started_at = time.monotonic()
    result = deliver(parts, 20)
    assert str(MAX_HEAD_BYTES) in str(result.error)
    assert time.monotonic() - started_at < 10


def test_interim_responses_do_not_extend_the_deadline() -> None:
    """However slowly they come."""

    def slowly() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield CONTINUE

    started_at = time.monotonic()
    assert deliver(slowly(), 0.5).error == "No response within 0.5 seconds."
    assert time.monotonic() - started_at < 5


def test_some_interim_responses_and_a_large_body_are_accepted() -> None:
    """The body is not read."""
    parts = [CONTINUE * 3, OK + b"Content-Length: 10000000\r\n\r\n", *[b"x" * 100_000] * 100]
    assert deliver(iter(parts), 10).is_delivered
