"""Who asks for much that takes long hinders nobody who records."""

import asyncio
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tallybook.application.metering import Metering

from tests.server.serving import PATIENCE_SECONDS, create_key, serve

MANY = 230
EVENT = {"event_name": "calls", "payload": {"stripe_customer_id": "c", "value": "1"}, "identifier": "one"}
CANCEL = {"event_name": "calls", "type": "cancel", "cancel": {"identifier": "one"}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger with usage that isn't in the read models yet."""
    file = tmp_path / "ledger.db"
    with Metering.open(f"sqlite:///{file}") as metering:
        metering.configure_meter("calls")
        metering.totals("calls", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
        metering.record("calls", {"stripe_customer_id": "c", "value": "1"})
    return file


@contextmanager
def questions_wait(file: Path) -> Generator[None]:
    """Whoever asks for figures waits meanwhile, as nothing can be folded."""
    with closing(sqlite3.connect(f"{file}.views", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_one_key_that_reads_hinders_nobody_who_records(file: Path) -> None:
    """Not the first one after a start either, nor who cancels, or begins a session."""
    url = f"sqlite:///{file}"
    reader, recorder = create_key(url, "read"), create_key(url, "record")

    async def tried(address: str) -> list[int]:
        limits = httpx.Limits(max_connections=2 * MANY)
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_SECONDS, limits=limits) as client:
            with questions_wait(file):
                headers = {"Authorization": f"Bearer {reader}"}
                path = "/v1/billing/meters/mtr_Y2FsbHM/totals?start_time=0&end_time=60"
                asking = [asyncio.create_task(client.get(path, headers=headers)) for _ in range(MANY)]
                await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)  # by then so many wait that no more may
                headers = {"Authorization": f"Bearer {recorder}"}
                done = [
                    await client.post(f"/v2/billing/{path}", headers=headers, json=body)
                    for path, body in (
                        ("meter_events", EVENT),
                        ("meter_event_adjustments", CANCEL),
                        ("meter_event_session", {}),
                    )
                ]
            assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200, 429}
        return [one.status_code for one in done]

    with serve(url) as serving:
        assert asyncio.run(tried(serving.url)) == [200, 200, 200]
