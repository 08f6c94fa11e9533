"""What is sent under load: requests that report usage, byte for byte as Stripe's Python SDK sends them."""

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote

import msgspec
from uuid_utils import uuid4

SUMMED, COUNTED = "tokens", "calls"
METERS = {SUMMED: "sum", COUNTED: "count"}
STREAMED = 100
"""The most events that one request of a stream may hold."""

_HEADERS = (
    "Host: 127.0.0.1\r\nUser-Agent: Stripe/v1 PythonBindings/16.1.0\r\nAccept: */*\r\nConnection: keep-alive\r\n"
    'X-Stripe-Client-User-Agent: {"bindings_version":"16.1.0","lang":"python","publisher":"stripe",'
    '"httplib":"requests","lang_version":"3.11.7","platform":"Linux-6.1-x86_64"}\r\n'
    "Stripe-Version: 2026-10-28.endive\r\n"
)

Event = dict[str, object]


@dataclass(frozen=True, slots=True)
class Post:
    """A request that reports usage of one customer, as it goes over the wire.

    `events` is how many it holds, `figures` what they add up to on each meter. Sent again it is the same bytes: the
    same Idempotency-Key, the same identifiers.
    """

    customer: str
    wire: bytes
    events: int
    figures: dict[str, int]


def streams(token: str, customers: Iterator[str], *, named: bool = True) -> Iterator[Post]:
    """Requests of 100 events each for the v2 stream, without end; with identifiers where `named`."""
    for customer, first in zip(customers, itertools.count(step=STREAMED), strict=False):
        numbers = range(first, first + STREAMED)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        sent = [_event(customer, number, now, named) for number in numbers]
        body = msgspec.json.encode({"events": sent})
        yield _post("/v2/billing/meter_event_stream", token, "application/json", body, customer, numbers)


def singles(key: str, customers: Iterator[str], *, named: bool = True) -> Iterator[Post]:
    """Requests of one event each for v1, without end; with an identifier where `named`."""
    for customer, number in zip(customers, itertools.count(), strict=False):
        fields = _event(customer, number, int(time.time()), named)
        body = form(fields).encode()
        numbers = range(number, number + 1)
        kind = "application/x-www-form-urlencoded"
        yield _post("/v1/billing/meter_events", key, kind, body, customer, numbers)


def form(fields: Mapping[str, object]) -> str:
    """A form body, or a query, with the literal brackets of the SDKs: a mapping gives `payload[value]=5`."""
    pairs: list[str] = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            inner = cast(Mapping[str, object], value)
            pairs += [f"{name}[{key}]={quote(str(of_key), safe='')}" for key, of_key in inner.items()]
        else:
            pairs.append(f"{name}={quote(str(value), safe='')}")
    return "&".join(pairs)


def figures(numbers: range) -> dict[str, int]:
    """What the events of these numbers add up to on each meter."""
    summed = [_value(number) for number in numbers if not number % 2]
    return {SUMMED: sum(summed), COUNTED: len(numbers) - len(summed)}


def _event(customer: str, number: int, now: str | int, named: bool) -> Event:
    payload = {"stripe_customer_id": customer, "value": str(_value(number))}
    event: Event = {"event_name": COUNTED if number % 2 else SUMMED, "payload": payload, "timestamp": now}
    if named:
        event["identifier"] = str(uuid4())
    return event


def _value(number: int) -> int:
    return 1 + number * 7 % 1_999


def _post(path: str, bearer: str, kind: str, body: bytes, customer: str, numbers: range) -> Post:
    head = (
        f"POST {path} HTTP/1.1\r\n{_HEADERS}Authorization: Bearer {bearer}\r\nIdempotency-Key: {uuid4()}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Post(customer, head.encode() + body, len(numbers), figures(numbers))
