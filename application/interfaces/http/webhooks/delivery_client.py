"""Sends one delivery with a signature that Stripe's official helpers verify."""

import asyncio
import hmac
import logging
from datetime import datetime
from importlib.metadata import version
from typing import NamedTuple

import httpx2

from ..api_types import to_unix
from .endpoints import Endpoint


def sign(body: bytes, secret: str, at: datetime) -> str:
    """Return the Stripe-Signature header of a body that is sent at a time."""
    seconds = to_unix(at)
    code = hmac.digest(secret.encode(), b"%d.%b" % (seconds, body), "sha256").hex()
    return f"t={seconds},v1={code}"


for _name in ("httpx2", "httpcore2"):  # they log complete URLs, which may contain secrets
    logging.getLogger(_name).setLevel(logging.WARNING)
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"Tallybook/{version('tallybook')}", "Accept": "*/*"}


class DeliveryResult(NamedTuple):
    """The result of an attempt: the status of the response, or an error."""

    status: int | None
    error: str | None

    @property
    def is_delivered(self) -> bool:
        """Return whether the endpoint accepted the event."""
        return self.status is not None and httpx2.codes.is_success(self.status)


def new_client() -> httpx2.AsyncClient:
    """Return an HTTP client that follows no redirects and reads no proxy or password from the environment."""
    return httpx2.AsyncClient(headers=_HEADERS, follow_redirects=False, trust_env=False, timeout=None)


async def send(
    client: httpx2.AsyncClient, endpoint: Endpoint, body: bytes, at: datetime, timeout_seconds: float
) -> DeliveryResult:
    """Send a signed body and return the result. The body of the response is not read."""
    headers = {"Stripe-Signature": sign(body, endpoint.secret, at)}
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            client.stream("POST", endpoint.url, content=body, headers=headers) as response,
        ):
            return DeliveryResult(response.status_code, None)
    except TimeoutError:
        return DeliveryResult(None, f"No response within {timeout_seconds:g} seconds.")
    except Exception as error:  # any error of the URL or the response is the result of the attempt
        return DeliveryResult(None, f"{type(error).__name__}: {error}")
