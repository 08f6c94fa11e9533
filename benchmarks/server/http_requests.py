"""The requests of the load: meter events, byte for byte as Stripe's Python SDK sends them."""

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
MAX_STREAM_EVENTS = 100
"""The maximum number of events in one request of the stream."""

_HEADERS = (
    "Host: 127.0.0.1\r\nUser-Agent: Stripe/v1 PythonBindings/16.1.0\r\nAccept: */*\r\nConnection: keep-alive\r\n"
    'X-Stripe-Client-User-Agent: {"bindings_version":"16.1.0","lang":"python","publisher":"stripe",'
    '"httplib":"requests","lang_version":"3.11.7","platform":"Linux-6.1-x86_64"}\r\n'
    "Stripe-Version: 2026-10-28.endive\r\n"
)

Event = dict[str, object]


@dataclass(frozen=True, slots=True)
class PostRequest:
    """A request with meter events of one customer, as raw bytes.

    `events` is their number, `totals` is their total on each meter. A retry sends the same bytes, and so the same
    Idempotency-Key and the same identifiers.
    """

    customer: str
    raw: bytes
    events: int
    totals: dict[str, int]


def stream_requests(token: str, customers: Iterator[str], *, with_identifiers: bool = True) -> Iterator[PostRequest]:
    """Yield an endless sequence of requests of 100 events each for the v2 stream."""
    for customer, first in zip(customers, itertools.count(step=MAX_STREAM_EVENTS), strict=False):
        numbers = range(first, first + MAX_STREAM_EVENTS)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        events = [_event(customer, number, now, with_identifiers) for number in numbers]
        body = msgspec.json.encode({"events": events})
        yield _post("/v2/billing/meter_event_stream", token, "application/json", body, customer, numbers)


def single_requests(key: str, customers: Iterator[str], *, with_identifiers: bool = True) -> Iterator[PostRequest]:
    """Yield an endless sequence of v1 requests of one event each."""
    for customer, number in zip(customers, itertools.count(), strict=False):
        fields = _event(customer, number, int(time.time()), with_identifiers)
        body = encode_form(fields).encode()
        numbers = range(number, number + 1)
        kind = "application/x-www-form-urlencoded"
        yield _post("/v1/billing/meter_events", key, kind, body, customer, numbers)


def encode_form(fields: Mapping[str, object]) -> str:
    """Return a form body or a query. A mapping becomes `payload[value]=5` with literal brackets, as in the SDKs."""
    pairs: list[str] = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            inner = cast(Mapping[str, object], value)
            pairs += [f"{name}[{key}]={quote(str(inner_value), safe='')}" for key, inner_value in inner.items()]
        else:
            pairs.append(f"{name}={quote(str(value), safe='')}")
    return "&".join(pairs)


def expected_totals(numbers: range) -> dict[str, int]:
    """Return the total of the events with these numbers on each meter."""
    summed = [_value(number) for number in numbers if not number % 2]
    return {SUMMED: sum(summed), COUNTED: len(numbers) - len(summed)}


def _event(customer: str, number: int, now: str | int, with_identifiers: bool) -> Event:
    payload = {"stripe_customer_id": customer, "value": str(_value(number))}
    event: Event = {"event_name": COUNTED if number % 2 else SUMMED, "payload": payload, "timestamp": now}
    if with_identifiers:
        event["identifier"] = str(uuid4())
    return event


def _value(number: int) -> int:
    return 1 + number * 7 % 1_999


def _post(path: str, bearer: str, kind: str, body: bytes, customer: str, numbers: range) -> PostRequest:
    head = (
        f"POST {path} HTTP/1.1\r\n{_HEADERS}Authorization: Bearer {bearer}\r\nIdempotency-Key: {uuid4()}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return PostRequest(customer, head.encode() + body, len(numbers), expected_totals(numbers))
