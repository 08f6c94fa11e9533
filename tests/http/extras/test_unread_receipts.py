"""The responses to recorded events that a client doesn't read: a key has a limited number of bytes of them."""

import asyncio
import json
from typing import Any, cast

from starlette.applications import Starlette
from tallybook.application.interfaces.http.sent_response import MAX_UNREAD_BYTES_PER_KEY

from ...notation import Clock, Ledger, moment
from .api_client import ApiClient

Json = dict[str, Any]
BATCH = "application/cloudevents-batch+json"
GOOD = {"specversion": "1.0", "id": "a", "source": "/x", "type": "calls", "subject": "acme", "data": {"calls": 1}}


def post(api: ApiClient, events: object) -> Any:
    headers = {"Authorization": f"Bearer {api.keys['record']}", "Content-Type": BATCH}
    return api.client.post("/v1/cloudevents", headers=headers, content=json.dumps(events))


def test_long_attributes_are_abbreviated(api: ApiClient, ledger: Ledger) -> None:
    """The index says which event it is."""
    ledger.given("meter calls sum")
    response = api.runner.run(post(api, [{**GOOD, "id": "i" * 5_000, "source": "s" * 5_000, "type": "unknown"}]))
    (rejected,) = response.json()["error"]["rejected"]
    assert (rejected["id"], rejected["source"]) == ("i" * 100 + "…", "s" * 100 + "…")


class SlowReader:
    """Sends a request, and reads no more than the head of the response until it is released."""

    def __init__(self, app: Starlette, key: str, body: bytes) -> None:
        self._app = app
        self._scope: Json = {
            "type": "http", "method": "POST", "path": "/v1/cloudevents", "query_string": b"", "client": None,
            "headers": [(b"authorization", f"Bearer {key}".encode()), (b"content-type", BATCH.encode())],
        }  # fmt: skip
        self._body = body
        self._released = asyncio.Event()
        self.status = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Send the request."""
        await self._app(self._scope, self._receive, self._send)

    def release(self) -> None:
        """Read the rest."""
        self._released.set()

    async def _receive(self) -> Any:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status.set_result(message["status"])
        else:
            await self._released.wait()


def test_a_key_that_reads_no_receipts_records_nothing_more(api: ApiClient, ledger: Ledger, clock: Clock) -> None:
    """It is rejected before anything is recorded, and records again when the responses are read."""
    ledger.given("meter calls sum")
    clock.now = moment("12:00")
    body = json.dumps([{"specversion": "x" * 1_000}] * 1_000).encode()
    app = cast(Any, api.client)._transport.app

    async def exchange() -> None:
        readers: list[SlowReader] = []
        async with asyncio.TaskGroup() as group:
            statuses: list[int] = []
            while 429 not in statuses and len(statuses) < 2 * MAX_UNREAD_BYTES_PER_KEY // len(body):
                readers.append(SlowReader(app, api.keys["record"], body))
                group.create_task(readers[-1].run())
                statuses.append(await readers[-1].status)
            rejected = await post(api, [GOOD])
            for reader in readers:
                reader.release()
        assert set(statuses) == {400, 429}
        assert sum(status == 400 for status in statuses) >= MAX_UNREAD_BYTES_PER_KEY // (len(body) + 200_000)
        assert (rejected.status_code, rejected.json()["error"]["code"]) == (429, "rate_limit")
        accepted = await post(api, [GOOD])
        assert accepted.json()["accepted"] == 1

    api.runner.run(exchange())
