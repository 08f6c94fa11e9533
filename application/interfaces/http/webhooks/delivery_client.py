"""Sends one delivery with a signature that Stripe's official helpers verify."""

import asyncio
import hmac
import logging
import ssl
from collections.abc import Iterable
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import version
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import httpcore2

from ..api_types import to_unix
from .allowed_addresses import AddressNotAllowed, AllowedAddressBackend, AllowedAddresses, Network, Resolve
from .cloud_events import Message
from .endpoints import Endpoint
from .host_resolver import HostResolver


def sign(body: bytes, secret: str, at: datetime) -> str:
    """Return the Stripe-Signature header of a body that is sent at a time."""
    seconds = to_unix(at)
    code = hmac.digest(secret.encode(), b"%d.%b" % (seconds, body), "sha256").hex()
    return f"t={seconds},v1={code}"


logging.getLogger("httpcore2").setLevel(logging.WARNING)  # it logs complete URLs, which may contain secrets
_KEEP_ALIVE_SECONDS = 5
_HEADERS = {"User-Agent": f"Tallybook/{version('tallybook')}", "Accept": "*/*"}


class DeliveryResult(NamedTuple):
    """The result of an attempt: the status of the response, or an error."""

    status: int | None
    error: str | None
    is_address_rejected: bool = False
    """The host has no address that may be connected to: somebody has to change the URL or the setting."""

    @property
    def is_delivered(self) -> bool:
        """Return whether the endpoint accepted the event."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class DeliveryClient:
    """Sends deliveries, to allowed addresses only. It follows no redirects and uses no proxies.

    httpcore2 is used without httpx2, because only its connection pool accepts another way to open connections.
    """

    def __init__(
        self,
        allowed_networks: Iterable[Network],
        *,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context,
            max_connections=None,  # each endpoint has one delivery at a time
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
            network_backend=AllowedAddressBackend(AllowedAddresses(allowed_networks), resolve or HostResolver()),
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(exc_type, exc, traceback)

    async def send(self, endpoint: Endpoint, message: Message, at: datetime, timeout_seconds: float) -> DeliveryResult:
        """Send a message with the signature of its body, and return the result. The response's body is not read."""
        signature = sign(message.body, endpoint.secret, at)
        host = urlsplit(endpoint.url).netloc
        headers = {**_HEADERS, **message.headers, "Host": host, "Stripe-Signature": signature}
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self._pool.stream(
                    "POST", endpoint.url, content=message.body, headers=list(headers.items())
                ) as response,
            ):
                return DeliveryResult(response.status, None)
        except TimeoutError:
            return DeliveryResult(None, f"No response within {timeout_seconds:g} seconds.")
        except AddressNotAllowed as error:
            return DeliveryResult(None, str(error), is_address_rejected=True)
        except Exception as error:  # any error of the URL or the response is the result of the attempt
            return DeliveryResult(None, f"{type(error).__name__}: {error}")
