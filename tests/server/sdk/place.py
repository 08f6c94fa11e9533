"""A server over a ledger of its own, and Stripe's SDK to talk to it."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from time import time
from typing import Any

import httpx
from stripe import StripeClient
from tallybook.application import Metering

from ..serving import create_key, serve

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@dataclass(frozen=True)
class Place:
    """A server, its ledger, and a key that may do everything."""

    url: str
    ledger: str
    admin_key: str

    def key(self, *scopes: str, test: bool = False) -> str:
        """Another key."""
        with Metering.open(self.ledger) as metering:
            return metering.create_access_key(scopes, livemode=not test).key

    def client(self, key: str = "", url: str = "", retries: int = 0) -> StripeClient:
        """Stripe's client with a key: the one that may do everything, where none is given."""
        to = url or self.url
        return StripeClient(
            key or self.admin_key, base_addresses={"api": to, "meter_events": to}, max_network_retries=retries
        )

    def ask(self, method: str, path: str, *, key: str = "", **request: Any) -> httpx.Response:
        """What is answered to a request that no SDK would send."""
        headers = {"Authorization": f"Bearer {key or self.admin_key}", **request.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=30, **request)


@contextmanager
def place(directory: Path) -> Generator[Place]:
    """A server over a new ledger file."""
    ledger = f"sqlite:///{directory / 'usage.db'}"
    key = create_key(ledger, "admin")
    with serve(ledger) as served:
        yield Place(served.url, ledger, key)


def raw(answer: Any) -> str:
    """An answer of the SDK's as it came over the wire."""
    return answer.last_response.body


def body(answer: Any) -> Any:
    """What an answer of the SDK's says, figures as decimals."""
    return json.loads(raw(answer), parse_float=Decimal)


def now() -> int:
    """Seconds since 1970."""
    return int(time())


def around_now(seconds: int = MINUTE) -> tuple[int, int]:
    """A range that is aligned, with an hour before now and after it."""
    start = (now() - HOUR) // seconds * seconds
    return start, (now() + HOUR) // seconds * seconds + seconds
