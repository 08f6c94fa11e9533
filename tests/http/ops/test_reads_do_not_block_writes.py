"""Slow reads do not block recording."""

import asyncio
import sqlite3
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from tallybook.application.metering import Metering

from tests.http.ops.connection import Connection
from tests.http.running_server import TIMEOUT_SECONDS, create_key, serve

MANY = 230
EVENT = {"event_name": "calls", "payload": {"stripe_customer_id": "c", "value": "1"}, "identifier": "one"}
CANCEL = {"event_name": "calls", "type": "cancel", "cancel": {"identifier": "one"}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger with usage that the read models do not contain yet."""
    file = tmp_path / "ledger.db"
    with Metering.open(f"sqlite:///{file}") as metering:
        metering.meters.configure("calls")
        metering.totals("calls", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
        metering.record("calls", {"stripe_customer_id": "c", "value": "1"})
    return file


@contextmanager
def block_queries(file: Path) -> Generator[None]:
    """Make all queries of totals wait, by locking the projection."""
    with closing(sqlite3.connect(f"{file}.read-models", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_reads_by_one_key_do_not_block_writes(file: Path) -> None:
    """Nor the first recording after a start, cancellations or new sessions."""
    url = f"sqlite:///{file}"
    reader, recorder = create_key(url, "read"), create_key(url, "record", "cancel")

    async def query_and_record(address: str) -> list[int]:
        limits = httpx2.Limits(max_connections=2 * MANY)
        async with httpx2.AsyncClient(base_url=address, timeout=TIMEOUT_SECONDS, limits=limits) as client:
            with block_queries(file):
                headers = {"Authorization": f"Bearer {reader}"}
                path = "/v1/billing/meters/mtr_Y2FsbHM/totals?start_time=0&end_time=60"
                read_tasks = [asyncio.create_task(client.get(path, headers=headers)) for _ in range(MANY)]
                await asyncio.wait(
                    read_tasks, return_when=asyncio.FIRST_COMPLETED
                )  # by then the queue of reads is full
                headers = {"Authorization": f"Bearer {recorder}"}
                responses = [
                    await client.post(f"/v2/billing/{path}", headers=headers, json=body)
                    for path, body in (
                        ("meter_events", EVENT),
                        ("meter_event_adjustments", CANCEL),
                        ("meter_event_session", {}),
                    )
                ]
            assert {response.status_code for response in await asyncio.gather(*read_tasks)} == {200, 429}
        return [read_response.status_code for read_response in responses]

    with serve(url) as server:
        assert asyncio.run(query_and_record(server.url)) == [200, 200, 200]


def test_a_shutdown_abandons_queries_that_wait_for_the_database(file: Path) -> None:
    """They get 503 after a second, and the server ends with status 0 although their threads still wait."""
    url = f"sqlite:///{file}"
    reader, other_reader = create_key(url, "read"), create_key(url, "read")
    path = "/v1/billing/meters/mtr_Y2FsbHM/totals?start_time=0&end_time=60"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {reader}\r\n\r\n"
    with serve(url) as server, block_queries(file), ExitStack() as connections:
        waiting = [connections.enter_context(Connection(server)).send(request) for _ in range(5)]
        assert (
            server.get("/v1/billing/meters", other_reader).status_code == 200
        )  # the server has read the earlier requests
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < TIMEOUT_SECONDS / 2
        for connection in waiting:
            response = connection.read_response()
            assert (response.status, response.error["code"]) == (503, "shutting_down")
            assert response.headers["retry-after"] == "1"
