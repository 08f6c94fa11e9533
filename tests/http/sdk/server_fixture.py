"""A server of its own ledger, and Stripe's SDK for it."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from time import time
from typing import Any

import httpx2
from stripe import StripeClient
from tallybook.application import Metering

from ..running_server import create_key, serve

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@dataclass(frozen=True)
class SdkServer:
    """A server, its ledger, and a key of all scopes."""

    url: str
    ledger: str
    admin_key: str

    def key(self, *scopes: str, test: bool = False) -> str:
        """Create another key."""
        with Metering.open(self.ledger) as metering:
            return metering.access_keys.create(scopes, livemode=not test).key

    def client(self, key: str = "", url: str = "", retries: int = 0) -> StripeClient:
        """Return Stripe's client with a key; the default has all scopes."""
        to = url or self.url
        return StripeClient(
            key or self.admin_key, base_addresses={"api": to, "meter_events": to}, max_network_retries=retries
        )

    def request(self, method: str, path: str, *, key: str = "", **arguments: Any) -> httpx2.Response:
        """Return the response to a request that no SDK would send."""
        headers = {"Authorization": f"Bearer {key or self.admin_key}", **arguments.pop("headers", {})}
        return httpx2.request(method, self.url + path, headers=headers, timeout=30, verify=False, **arguments)


@contextmanager
def sdk_server(directory: Path) -> Generator[SdkServer]:
    """Serve a new ledger file."""
    ledger = f"sqlite:///{directory / 'usage.db'}"
    key = create_key(ledger, "admin")
    with serve(ledger) as running:
        yield SdkServer(running.url, ledger, key)


def raw_body(response: Any) -> str:
    """Return the body of an SDK response as it was sent."""
    return response.last_response.body


def parse_body(response: Any) -> Any:
    """Return the body of an SDK response, with numbers as decimals."""
    return json.loads(raw_body(response), parse_float=Decimal)


def now() -> int:
    """Return the seconds since 1970."""
    return int(time())


def around_now(seconds: int = MINUTE) -> tuple[int, int]:
    """Return an aligned range from an hour before now to an hour after."""
    start = (now() - HOUR) // seconds * seconds
    return start, (now() + HOUR) // seconds * seconds + seconds
