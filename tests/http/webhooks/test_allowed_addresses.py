"""Webhooks reach public addresses and allowed networks, and nothing else, whatever a name resolves to."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tallybook.application.interfaces.http.webhooks.allowed_addresses import AllowedAddresses
from tallybook.application.interfaces.http.webhooks.cloud_events import Message
from tallybook.application.interfaces.http.webhooks.delivery_client import DeliveryClient, DeliveryResult
from tallybook.application.interfaces.http.webhooks.endpoints import Endpoint

from tests.http.running_server import create_key
from tests.http.webhooks.receiver import Receiver, run_receiver
from tests.http.webhooks.webhook_server import new_endpoint, new_meter, quick_server, stripe_client
from tests.waiting import wait_until

NOW = datetime(2026, 10, 1, tzinfo=UTC)
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
NOT_PUBLIC = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1",
    "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    """Without a setting."""
    assert ip_address(address) in AllowedAddresses([])


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_other_addresses_are_not_allowed(address: str) -> None:
    """Neither directly nor embedded in an IPv6 address, unless a network with them is allowed."""
    assert ip_address(address) not in AllowedAddresses([])
    assert ip_address(address) not in AllowedAddresses([ip_network("192.168.7.0/24"), ip_network("fd12::/32")])
    assert ip_address(address) in AllowedAddresses([ip_network("0.0.0.0/0"), ip_network("::/0")])


def test_an_allowed_network_includes_its_embedded_forms() -> None:
    """The connection leads to the same host."""
    allowed = AllowedAddresses([ip_network("10.20.0.0/16")])
    assert all(ip_address(address) in allowed for address in ("10.20.1.1", "::ffff:10.20.1.1", "64:ff9b::a14:101"))
    assert ip_address("10.21.0.1") not in allowed


class FakeResolver:
    """Resolves every host to the next of these answers."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        return self.answers.pop(0)


def deliver(
    url: str,
    resolver: FakeResolver,
    *networks: str,
    count: int = 1,
    ssl_context: ssl.SSLContext | None = None,
) -> list[DeliveryResult]:
    """Return the results of deliveries to a URL."""

    async def send() -> list[DeliveryResult]:
        allowed_networks = [ip_network(network) for network in networks]
        endpoint = Endpoint(id="we_1", url=url, enabled_events=("*",), created=0, secret="whsec_1")
        async with DeliveryClient(allowed_networks, resolve=resolver, ssl_context=ssl_context) as client:
            return [await client.send(endpoint, Message(b"{}", {}), NOW, 5) for _ in range(count)]

    return asyncio.run(send())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_this_machine_is_rejected_in_every_spelling(receiver: Receiver, host: str) -> None:
    """The result says what to do."""
    url = f"http://{host}:{receiver.server.server_port}/hooks"
    endpoint = Endpoint(id="we_1", url=url, enabled_events=("*",), created=0, secret="whsec_1")

    async def send() -> DeliveryResult:
        async with DeliveryClient([]) as client:
            return await client.send(endpoint, Message(b"{}", {}), NOW, 5)

    result = asyncio.run(send())
    assert result.is_address_rejected
    assert "TALLYBOOK_WEBHOOKS__ALLOWED_NETWORKS" in str(result.error)
    assert receiver.received == []


def test_a_name_that_resolves_differently_a_moment_later_is_rejected(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to the checked address, and nothing else resolves the name again (DNS rebinding)."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    resolver = FakeResolver(["127.0.0.1"], ["127.0.0.2"])
    url = f"http://rebinding.example:{receiver.server.server_port}/hooks"
    delivered, rejected = deliver(url, resolver, "127.0.0.1/32", count=2)
    assert delivered.is_delivered
    assert rejected.is_address_rejected
    assert "127.0.0.2" in str(rejected.error)
    assert len(receiver.received) == 1
    assert receiver.received[0].headers["Host"] == f"rebinding.example:{receiver.server.server_port}"


def test_only_the_allowed_addresses_of_a_name_are_tried(receiver: Receiver) -> None:
    """In order, until one accepts the connection."""
    url = f"http://several.example:{receiver.server.server_port}/hooks"
    (result,) = deliver(url, FakeResolver(["10.0.0.1", "127.0.0.9", "127.0.0.1"]), "127.0.0.0/8")
    assert result.is_delivered
    (unresolved,) = deliver(url, FakeResolver([]))
    assert unresolved.is_address_rejected


def test_a_redirect_into_the_network_is_not_followed(receiver: Receiver) -> None:
    """It is a failed attempt."""
    with run_receiver() as inside:
        receiver.statuses, receiver.headers = [307], {"Location": inside.url}
        (result,) = deliver(receiver.url, FakeResolver(["127.0.0.1"]), "127.0.0.1/32")
        assert (result.status, result.is_delivered, inside.received) == (307, False, [])


def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could reach what the server may not."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (result,) = deliver(receiver.url, FakeResolver(["127.0.0.1"]), "127.0.0.1/32")
    assert result.is_delivered


def certificate_for(name: str, folder: Path) -> Path:
    """Return a file with a key and a self-signed certificate for a name."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW, NOW + timedelta(days=36_500))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{name}.pem"
    file.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize(("host", "is_delivered"), [("hooks.example", True), ("other.example", False)])
def test_tls_verifies_the_name_and_not_the_address(
    receiver: Receiver, tmp_path: Path, host: str, is_delivered: bool
) -> None:
    """A certificate for another name is rejected."""
    certificate = certificate_for("hooks.example", tmp_path)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate)
    receiver.server.socket = server_context.wrap_socket(receiver.server.socket, server_side=True)
    (result,) = deliver(
        f"https://{host}:{receiver.server.server_port}/hooks",
        FakeResolver(["127.0.0.1"]),
        "127.0.0.1/32",
        ssl_context=ssl.create_default_context(cafile=str(certificate)),
    )
    assert result.is_delivered is is_delivered
    assert is_delivered or "certificate" in str(result.error).lower()


def test_a_server_delivers_nothing_to_a_private_address_by_default(ledger_url: str, receiver: Receiver) -> None:
    """It logs once per endpoint what to do, and delivers the same event after the setting was changed."""
    key = create_key(ledger_url, "admin")
    with quick_server(ledger_url, allowed_networks="") as server:
        client = stripe_client(server, key)
        new_endpoint(client, receiver)
        new_meter(client)
        wait_until(lambda: 'outcome="failed"} 2.0' in server.get("/metrics", key).text)
        server.stop()
        (message,) = [line["message"] for line in server.log if line.get("level") == "warning"]
        assert "127.0.0.1" in str(message)
        assert "TALLYBOOK_WEBHOOKS__ALLOWED_NETWORKS" in str(message)
        assert receiver.received == []
    with quick_server(ledger_url):
        receiver.wait(1)
