"""`python -m tests.soak.misbehaving_clients PORT KEYS SECONDS`: eight clients that misbehave until they are killed.

KEYS is a JSON list of access keys with all scopes, one for each client that has one. Each client starts a round of its
misbehaviour every SECONDS, or as soon as the one before has ended.
"""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

METER_PATH = "/v1/billing/meters/mtr_dG9rZW5z"
SUMMARY_RANGE = "start_time=0&end_time=4102444800"
LARGE_BODY = 3_900_000
ABANDONED_AFTER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the server on a port, with an access key, if it has one."""

    port: int
    key: str = ""

    def request(self, method: str, path: str, body: bytes = b"", *headers: str, length: str | None = None) -> bytes:
        """Return the bytes of a request."""
        authorization = (f"Authorization: Bearer {self.key}",) if self.key else ()
        content = ("Content-Type: application/json",) if body else ()
        lines = [
            f"{method} {path} HTTP/1.1", "Host: localhost", *authorization, *content, *headers,
            f"Content-Length: {len(body) if length is None else length}",
        ]  # fmt: skip
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def send(self, data: bytes, *, stay_seconds: float = 0, read: bool = True) -> bytes:
        """Send bytes over a new connection, stay connected for some time, and return what was received first."""
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**16)
            try:
                writer.write(data)
                with suppress(TimeoutError):
                    async with asyncio.timeout(stay_seconds or 30):
                        await writer.drain()
                        if read:
                            return await reader.read(65_536)
                        await asyncio.sleep(stay_seconds)
            finally:
                writer.transport.abort()
        return b""


async def abandon_slow_queries(client: Client) -> None:
    """Sixty queries as of a position whose connections are closed after half a second."""
    query = client.request("GET", f"{METER_PATH}/totals?{SUMMARY_RANGE}&limit=10000&as_of_position=50000")
    await asyncio.gather(*(client.send(query, stay_seconds=ABANDONED_AFTER_SECONDS, read=False) for _ in range(60)))


async def leave_responses_unread(client: Client) -> None:
    """Twenty-five connections that ask for an explanation and do not read it."""
    query = client.request("GET", f"{METER_PATH}/explanation?customer=large&{SUMMARY_RANGE}")
    await asyncio.gather(*(client.send(query * 3, stay_seconds=8, read=False) for _ in range(25)))


async def ask_for_much(client: Client) -> None:
    """Queries of everything, one after another, on several connections."""
    paths = itertools.cycle(
        (
            f"{METER_PATH}/totals?{SUMMARY_RANGE}&limit=10000",
            f"/v1/billing/meter_events?event_name=tokens&limit=100&{SUMMARY_RANGE}",
            f"{METER_PATH}/event_summaries?customer=large&{SUMMARY_RANGE}&value_grouping_window=hour",
        )
    )
    await asyncio.gather(*(client.send(client.request("GET", next(paths)), stay_seconds=5) for _ in range(20)))


async def connect_without_a_key(client: Client) -> None:
    """A hundred connections without a key, again and again."""
    request = client.request("GET", "/v1/billing/meters")
    await asyncio.gather(*(client.send(request, stay_seconds=1) for _ in range(100)))


async def stall_bodies(client: Client) -> None:
    """Large bodies without their end: 65 without a key, and 20 with one."""
    stranger = Client(client.port)
    stalled = [
        sender.send(sender.request("POST", "/v1/billing/meter_events", b"x" * 500_000, length=str(LARGE_BODY)),
                    stay_seconds=5, read=False)
        for sender, number in ((stranger, 65), (client, 20)) for _ in range(number)
    ]  # fmt: skip
    await asyncio.gather(*stalled)


async def send_rejected_streams(client: Client) -> None:
    """Streams of a hundred events for a meter that does not exist."""
    created = await client.send(client.request("POST", "/v2/billing/meter_event_session", b"{}"), stay_seconds=5)
    try:
        token = json.loads(created.partition(b"\r\n\r\n")[2])["authentication_token"]
    except (ValueError, KeyError):
        return
    event = {"event_name": "token", "payload": {"stripe_customer_id": "acme", "value": "1", "note": "x" * 2_000}}
    session = Client(client.port, token)
    request = session.request("POST", "/v2/billing/meter_event_stream", json.dumps({"events": [event] * 100}).encode())
    await asyncio.gather(*(session.send(request, stay_seconds=5) for _ in range(20)))


async def send_invalid_events(client: Client) -> None:
    """Events of a misspelt meter, and large ones with invalid values, on forty connections."""
    bodies = [
        json.dumps({"event_name": "token", "payload": {"stripe_customer_id": "acme", "value": "1"}}).encode(),
        json.dumps({"event_name": "tokens", "payload": {"stripe_customer_id": "a", "value": "x" * 5_000}}).encode(),
    ] * 20
    requests = (client.request("POST", "/v1/billing/meter_events", body) for body in bodies)
    await asyncio.gather(*(client.send(request, stay_seconds=5) for request in requests))


async def send_malformed_requests(client: Client) -> None:
    """What is not HTTP, or nearly."""
    malformed = [
        client.request("POST", "/v1/billing/meter_events", b"{}", length="0" * 5_000 + "2"),
        client.request("POST", "/v1/billing/meter_events", b"[" * 50_000),
        client.request("GET", f"/v1/billing/meters?limit={'9' * 6_000}"),
        client.request("GET", "/" + "a" * 40_000),
        b"\x16\x03\x01\x00\xa5" * 100,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 500,
        b"GET / HTTP/1.1\r\nHo",
    ]
    await asyncio.gather(*(client.send(data, stay_seconds=2) for data in malformed for _ in range(3)))


MISBEHAVIOURS: tuple[Callable[[Client], Awaitable[None]], ...] = (
    abandon_slow_queries, leave_responses_unread, ask_for_much, connect_without_a_key, stall_bodies,
    send_rejected_streams, send_invalid_events, send_malformed_requests,
)  # fmt: skip


async def repeat(misbehave: Callable[[Client], Awaitable[None]], client: Client, round_seconds: float) -> None:
    """Misbehave for ever."""
    while True:
        started = time.monotonic()
        await misbehave(client)
        await asyncio.sleep(max(0, started + round_seconds - time.monotonic()))


async def main(port: int, keys: list[str], round_seconds: float) -> None:
    """Let all clients misbehave at once."""
    clients = [
        Client(port, "" if misbehave is connect_without_a_key else key)
        for misbehave, key in zip(MISBEHAVIOURS, keys, strict=True)
    ]
    rounds = zip(MISBEHAVIOURS, clients, strict=True)
    await asyncio.gather(*(repeat(misbehave, client, round_seconds) for misbehave, client in rounds))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])))
