"""Names that resolve slowly or never delay only the deliveries to them."""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from tallybook.application.interfaces.http.webhooks.cloud_events import Message
from tallybook.application.interfaces.http.webhooks.delivery_client import DeliveryClient, DeliveryResult
from tallybook.application.interfaces.http.webhooks.endpoints import Endpoint
from tallybook.application.interfaces.http.webhooks.host_resolver import HostResolver

from tests.http.webhooks.receiver import Receiver
from tests.waiting import wait_until

NOW = datetime(2026, 10, 1, tzinfo=UTC)
TIMEOUT_SECONDS = 0.5


class NameServer:
    """Resolves every name to loopback; a name that starts with `silent`, only when the test is over."""

    def __init__(self) -> None:
        self.lookups: Counter[str] = Counter()
        self.is_over = threading.Event()

    def getaddrinfo(self, host: str, port: int, **_: Any) -> Any:
        """Return the result of socket.getaddrinfo."""
        self.lookups[host] += 1
        if host.startswith("silent"):
            self.is_over.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """The name server of this process."""
    name_server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", name_server.getaddrinfo)
    yield name_server
    name_server.is_over.set()


async def send(client: DeliveryClient, receiver: Receiver, host: str, timeout_seconds: float) -> DeliveryResult:
    """Return the result of a delivery to a host."""
    url = f"http://{host}:{receiver.server.server_port}/hooks"
    endpoint = Endpoint(id="we_1", url=url, enabled_events=("*",), created=0, secret="whsec_1")
    return await client.send(endpoint, Message(b"{}", {}), NOW, timeout_seconds)


def test_hanging_lookups_delay_nothing_else(receiver: Receiver, name_server: NameServer) -> None:
    """Neither other deliveries, nor other work in threads, nor the end of the dispatcher."""

    async def run() -> tuple[DeliveryResult, list[DeliveryResult]]:
        async with DeliveryClient([ip_network("127.0.0.0/8")]) as client:
            hosts = [f"silent-{number}.example" for number in range(20)]
            hanging = [asyncio.create_task(send(client, receiver, host, TIMEOUT_SECONDS)) for host in hosts]
            await asyncio.to_thread(wait_until, lambda: len(name_server.lookups) == len(hosts))
            return await send(client, receiver, "hooks.example", 10), await asyncio.gather(*hanging)

    started_at = time.monotonic()
    delivered, failed = asyncio.run(run())
    assert delivered.is_delivered
    assert {result.error for result in failed} == {"No response within 0.5 seconds."}
    assert time.monotonic() - started_at < 10


def test_a_host_is_looked_up_once_at_a_time(receiver: Receiver, name_server: NameServer) -> None:
    """A retry waits for the lookup of the attempt before it."""

    async def run() -> list[DeliveryResult]:
        async with DeliveryClient([ip_network("127.0.0.0/8")]) as client:
            first = await send(client, receiver, "silent.example", TIMEOUT_SECONDS)
            retry = asyncio.create_task(send(client, receiver, "silent.example", 10))
            await send(client, receiver, "hooks.example", 10)
            name_server.is_over.set()
            return [first, await retry, await send(client, receiver, "hooks.example", 10)]

    first, retry, other = asyncio.run(run())
    assert not first.is_delivered
    assert retry.is_delivered
    assert other.is_delivered
    assert name_server.lookups == {"silent.example": 1, "hooks.example": 2}


def test_a_limited_number_of_hosts_is_looked_up_at_once(name_server: NameServer) -> None:
    """Others wait."""

    async def run() -> list[Any]:
        resolver = HostResolver(max_lookups=1)
        first, second = (asyncio.create_task(resolver(host, 443)) for host in ("silent.example", "hooks.example"))
        await asyncio.to_thread(wait_until, lambda: bool(name_server.lookups))
        assert not second.done()
        name_server.is_over.set()
        return [await first, await second]

    assert asyncio.run(run()) == [["127.0.0.1"]] * 2


def test_an_unknown_host_is_reported(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the operating system does; so is what can't be a host name."""

    async def run(host: str) -> DeliveryResult:
        async with DeliveryClient([]) as client:
            return await send(client, receiver, host, 10)

    def fail(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") if "." in host else UnicodeError("long")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "Name or service not known" in str(asyncio.run(run("unknown.example")).error)
    assert "UnicodeError" in str(asyncio.run(run("a" * 70)).error)
