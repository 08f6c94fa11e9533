"""Which addresses a webhook may be delivered to, checked when the connection is made (server-side request forgery).

The name of a host is resolved here, and the connection goes to the address that was checked. So a name that resolves to
another address a moment later (DNS rebinding) gains nothing. TLS still verifies the name. See docs/decisions/0026.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import cast

import httpcore2

from .response_head import HeadLimitedStream

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host, as text, in the order in which they should be tried. Raises OSError."""

ALLOWED_NETWORKS_SETTING = "TALLYBOOK_WEBHOOKS__ALLOWED_NETWORKS"

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = (
    # The registries of IANA for special purposes (RFC 6890), written down because `is_global` differs between versions
    # of Python. IPv6 outside of 2000::/3 is not public either: loopback, link-local, unique local, multicast.
    *map(IPv4Network, ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12")),
    *map(IPv4Network, ("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15")),
    *map(IPv4Network, ("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")),
    *map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")),
    IPv4Network("168.63.129.16"),  # the metadata service of Azure has an address of the public range
)


class AddressNotAllowed(Exception):
    """The host of an endpoint has no address that a webhook may be delivered to."""


class AllowedAddresses:
    """The public addresses, and those of the networks that a setting allows."""

    def __init__(self, allowed_networks: Iterable[Network]) -> None:
        self._allowed_networks = tuple(allowed_networks)

    def __contains__(self, address: Address) -> bool:
        reached = _reached_address(address)
        allowed_explicitly = any(part in network for part in (address, reached) for network in self._allowed_networks)
        return allowed_explicitly or _is_public(reached)


def _reached_address(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, mapped (RFC 4291) or through NAT64 (RFC 6052)."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


class AllowedAddressBackend(httpcore2.AsyncNetworkBackend):
    """Opens the connections of a client, to allowed addresses only."""

    def __init__(self, allowed: AllowedAddresses, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._backend = cast(httpcore2.AsyncNetworkBackend, httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first allowed address that accepts. Raises AddressNotAllowed and OSError."""
        addresses = await self._resolve(host, port)
        allowed = [address for address in addresses if ip_address(address) in self._allowed]
        if not allowed:
            raise AddressNotAllowed(
                f"The address of its host is not public: {next(iter(addresses), 'none')}. To deliver to a private "
                f"network, add the network to {ALLOWED_NETWORKS_SETTING}."
            )
        connect = partial(
            self._backend.connect_tcp,
            port=port, timeout=timeout, local_address=local_address, socket_options=socket_options,
        )  # fmt: skip
        for address in allowed[:-1]:
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return HeadLimitedStream(await connect(address))
        return HeadLimitedStream(await connect(allowed[-1]))

    async def sleep(self, seconds: float) -> None:
        """Wait before another attempt to connect."""
        await self._backend.sleep(seconds)
