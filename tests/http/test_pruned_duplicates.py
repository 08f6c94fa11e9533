"""Requests with the identifiers of pruned events wait for the archive, and no other request waits for them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from tallybook.application import Metering
from tallybook.application.interfaces.http.app import create_app
from tallybook.application.interfaces.http.observability.metrics import Metrics, Observer
from tallybook.application.interfaces.http.settings import ServerSettings
from tallybook.application.usage_import.cloud_events import identifier_of

from ..archive.blocked_archive import BlockedArchive
from ..archive.pruning import LIFTED, History

NOW = datetime.now(UTC)
SOURCE = "/tests"


@dataclass
class PrunedLedger:
    """A ledger with pruned usage, and the access keys of two senders."""

    url: str
    metering: Metering
    keys: list[str]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrunedLedger]:
    """Return a ledger with one pruned event."""
    folder = tmp_path_factory.mktemp("pruned")
    url = f"sqlite:///{folder}/usage.db"
    with Metering.open(url, policy=LIFTED) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        payload = {"customer": "acme", "value": "1"}
        metering.record("tokens", payload, identifier=identifier_of(SOURCE, "old"), timestamp=NOW)
        metering.catch_up()
        history = History(folder)
        history.archive_all(metering)
        assert history.prune(metering).events == 1
        yield PrunedLedger(url, metering, [metering.access_keys.create(["record"]).key for _ in range(2)])


class Server:
    """A server of a ledger in process. Its archive is blocked."""

    def __init__(self, app: Any, client: httpx2.AsyncClient, metrics: Metrics) -> None:
        self.client = client
        self.metrics = metrics
        self.handler = app.state.request_handler
        self.archive = BlockedArchive(app.state.ledgers.for_mode(livemode=True).metering)

    async def send(self, key: str, *ids: str, value: str = "1", idempotency_key: str | None = None) -> httpx2.Response:
        """Record a batch of CloudEvents with these ids."""
        events = [
            {
                "specversion": "1.0", "type": "tokens", "source": SOURCE, "id": event_id, "time": NOW.isoformat(),
                "data": {"customer": "acme", "value": value},
            }
            for event_id in ids
        ]  # fmt: skip
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents-batch+json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return await self.client.post("/v1/cloudevents", headers=headers, content=json.dumps(events))

    async def send_until_blocked(self, key: str, *ids: str, **options: Any) -> "asyncio.Task[httpx2.Response]":
        """Send a batch, and return when it waits for the archive."""
        task = asyncio.create_task(self.send(key, *ids, **options))
        await asyncio.to_thread(self.archive.wait_until_reached)
        return task


@asynccontextmanager
async def serve(ledger: PrunedLedger, query_timeout_seconds: float = 60) -> AsyncGenerator[Server]:
    """Serve a ledger in process."""
    settings = ServerSettings(ledger=ledger.url, query_timeout_seconds=query_timeout_seconds)
    metrics = Metrics(is_multiprocess=False)
    app = create_app(settings, Observer(metrics))
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            server = Server(app, client, metrics)
            try:
                yield server
            finally:
                server.archive.release()


def counts(response: httpx2.Response) -> tuple[int, int]:
    """Return how many events of a batch are new, and how many are duplicates."""
    assert response.status_code == 200, response.text
    return response.json()["accepted"], response.json()["duplicate"]


def test_no_request_waits_for_the_archive_but_the_one_that_needs_it(ledger: PrunedLedger) -> None:
    """The new events of that one are recorded at once. Its response is stored under its idempotency key."""
    first, second = ledger.keys

    async def run() -> None:
        async with serve(ledger) as server:
            waiting = await server.send_until_blocked(first, "new-1", "old", "new-2", idempotency_key="one")
            assert counts(await server.send(second, "new-3")) == (1, 0)
            assert counts(await server.send(first, "new-4")) == (1, 0)
            assert counts(await server.send(second, "new-1", "new-2")) == (0, 2)
            assert not waiting.done()
            server.archive.release()
            response = await waiting
            assert counts(response) == (2, 1)
            replayed = await server.send(first, "new-1", "old", "new-2", idempotency_key="one")
            assert (replayed.content, replayed.headers["Idempotent-Replayed"]) == (response.content, "true")
            conflict = await server.send(first, "old", "new-5", value="2")
            assert conflict.status_code == 400
            assert [event["code"] for event in conflict.json()["error"]["rejected"]] == ["duplicate_meter_event"]
            rendered = server.metrics.render().decode()
            for outcome, count in {"accepted": 5, "duplicate": 3, "conflict": 1}.items():
                assert f'tallybook_events_total{{outcome="{outcome}"}} {count}.0' in rendered

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_repetition_of_a_request_that_waits_gets_its_response(ledger: PrunedLedger) -> None:
    """But if another request with its idempotency key is finished first, the waiting one is rejected."""
    key = ledger.keys[0]

    async def run() -> None:
        async with serve(ledger) as server:
            waiting = await server.send_until_blocked(key, "old", "twice", idempotency_key="three")
            repeated = asyncio.create_task(server.send(key, "old", "twice", idempotency_key="three"))
            mixed_up = await server.send_until_blocked(key, "old", "mixed-up", idempotency_key="four")
            assert counts(await server.send(key, "first", idempotency_key="four")) == (1, 0)
            server.archive.release()
            responses = [await waiting, await repeated]
            assert responses[0].content == responses[1].content
            assert sorted("Idempotent-Replayed" in response.headers for response in responses) == [False, True]
            rejected = await mixed_up
            assert (rejected.status_code, rejected.json()["error"]["type"]) == (400, "idempotency_error")

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_request_that_waits_too_long_fails_alone_and_can_be_repeated(ledger: PrunedLedger) -> None:
    """It gets 503 after the timeout of queries. Its new event is recorded: a repetition has duplicates only."""
    first, second = ledger.keys

    async def run() -> None:
        async with serve(ledger, query_timeout_seconds=0.2) as server:
            late, other = await asyncio.gather(
                server.send(first, "old", "late", idempotency_key="two"), server.send(second, "other")
            )
            assert counts(other) == (1, 0)
            error = late.json()["error"]
            assert (late.status_code, late.headers["Retry-After"], error["code"]) == (503, "5", "query_timeout")
            assert error["message"].startswith("The new meter events of this request are recorded.")
        async with serve(ledger) as server:
            server.archive.release()
            assert counts(await server.send(first, "old", "late", idempotency_key="two")) == (0, 2)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_server_that_shuts_down_does_not_wait_for_the_archive(ledger: PrunedLedger) -> None:
    """The request gets 503, and its new event is recorded."""

    async def run() -> None:
        async with serve(ledger) as server:
            waiting = await server.send_until_blocked(ledger.keys[0], "old", "last")
            closing = asyncio.create_task(server.handler.close())
            response = await waiting
            assert (response.status_code, response.json()["error"]["code"]) == (503, "shutting_down")
            server.archive.release()
            await closing

    asyncio.run(asyncio.wait_for(run(), 60))
    assert ledger.metering.event(identifier_of(SOURCE, "last")).value == 1


def test_a_repetition_records_no_event_twice_that_has_no_identifier(ledger: PrunedLedger) -> None:
    """Of a stream whose other event waits for the archive, or waited too long. Under another key they are new."""
    key = ledger.keys[0]

    async def run(query_timeout_seconds: float, *idempotency_keys: str) -> list[int]:
        async with serve(ledger, query_timeout_seconds) as server:
            session = await server.client.post(
                "/v2/billing/meter_event_session", headers={"Authorization": f"Bearer {key}"}, json={}
            )
            token = session.json()["authentication_token"]
            payload = {"customer": "stream", "value": "1"}
            event = {"event_name": "tokens", "payload": payload, "timestamp": NOW.isoformat()}
            events = [event, event | {"identifier": identifier_of(SOURCE, "old")}, event]

            async def send(idempotency_key: str) -> int:
                response = await server.client.post(
                    "/v2/billing/meter_event_stream",
                    headers={"Authorization": f"Bearer {token}", "Idempotency-Key": idempotency_key},
                    json={"events": events},
                )
                return response.status_code

            requests = [asyncio.create_task(send(idempotency_key)) for idempotency_key in idempotency_keys]
            if query_timeout_seconds > 1:
                await asyncio.to_thread(server.archive.wait_until_reached)
                server.archive.release()
            return await asyncio.gather(*requests)

    def count() -> int:
        return ledger.metering.total("tokens", "stream", NOW - timedelta(days=1), NOW + timedelta(days=1)).count

    assert asyncio.run(asyncio.wait_for(run(60, "five", "five"), 60)) == [200, 200]
    assert count() == 2
    assert asyncio.run(asyncio.wait_for(run(0.2, "six"), 60)) == [503]
    assert asyncio.run(asyncio.wait_for(run(60, "six"), 60)) == [200]
    assert count() == 4
