"""Sending: one attempt to deliver an event."""

import asyncio
import logging
from datetime import datetime
from importlib.metadata import version
from typing import NamedTuple

import httpx

from .endpoints import Endpoint
from .signature import signature

logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells whole URLs, with what may be secret in them
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"Tallybook/{version('tallybook')}", "Accept": "*/*"}


class Outcome(NamedTuple):
    """How an attempt ended: with the status of an answer, or with an error."""

    status: int | None
    error: str | None

    @property
    def is_delivered(self) -> bool:
        """Whether the endpoint has it."""
        return self.status is not None and httpx.codes.is_success(self.status)


def new_client() -> httpx.AsyncClient:
    """What connects to endpoints: it follows no redirects, and reads no proxy or password from the environment."""
    return httpx.AsyncClient(headers=_HEADERS, follow_redirects=False, trust_env=False, timeout=None)  # noqa: S113


async def send(
    client: httpx.AsyncClient, endpoint: Endpoint, body: bytes, at: datetime, timeout_seconds: float
) -> Outcome:
    """Send a body, signed anew. What the endpoint says besides its status isn't read."""
    headers = {"Stripe-Signature": signature(body, endpoint.secret, at)}
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            client.stream("POST", endpoint.url, content=body, headers=headers) as response,
        ):
            return Outcome(response.status_code, None)
    except TimeoutError:
        return Outcome(None, f"There was no answer within {timeout_seconds:g} seconds.")
    except Exception as error:  # whatever an endpoint's address or answer brings about is told with it
        return Outcome(None, f"{type(error).__name__}: {error}")
