"""Failed logins: their responses wait, and a valid key never does, whoever else sends invalid ones."""

import asyncio
from pathlib import Path
from typing import cast

import httpx2
from starlette.applications import Starlette
from tallybook.application.interfaces.console.login import Login
from tallybook.application.interfaces.console.login_delays import LoginDelays
from tallybook.application.interfaces.console.security import Site
from tallybook.application.interfaces.http.ledgers import LedgerRegistry
from tallybook.application.interfaces.http.observability.access_log import RequestSummary
from tallybook.application.interfaces.http.observability.metrics import Observer
from tallybook.application.interfaces.http.request_handler import RequestHandler, query_limits
from tallybook.application.interfaces.http.sent_response import unread_response_budget

from tallybook import AcceptancePolicy, utc_now

FAILURES, MAX_WAITING = 6, 4


class RecordingObserver:
    """Records the finished requests."""

    def __init__(self) -> None:
        self.finished: list[RequestSummary] = []

    def request_finished(self, summary: RequestSummary) -> None:
        """Record a finished request."""
        self.finished.append(summary)


def test_a_valid_key_is_accepted_while_failures_of_the_same_address_wait(tmp_path: Path) -> None:
    """All clients of a proxy have its address. Too many failures get 429 at once; all requests are reported."""
    ledgers = LedgerRegistry(f"sqlite:///{tmp_path}/usage.db", AcceptancePolicy(), utc_now)
    created = ledgers.for_mode(livemode=True).metering.access_keys.create(["read"])
    recorder = RecordingObserver()
    observer = cast(Observer, recorder)

    async def run() -> None:
        is_over = asyncio.Event()

        async def sleep(_seconds: float) -> None:
            await is_over.wait()

        login = Login(Site.of("localhost"), observer, LoginDelays(max_waiting=MAX_WAITING, sleep=sleep))
        app = Starlette(routes=login.routes())
        app.state.request_handler = RequestHandler(ledgers, observer, unread_response_budget(), query_limits(30))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
            failures = [asyncio.ensure_future(client.post("/login", data={"key": "x"})) for _ in range(FAILURES)]
            rejected = await next(asyncio.as_completed(failures))
            valid = await client.post("/login", data={"key": created.key})
            await client.post("/logout", headers={"Cookie": valid.headers["set-cookie"].partition(";")[0]})
            is_over.set()
            responses = await asyncio.gather(*failures)
        await app.state.request_handler.close()
        assert (valid.status_code, valid.headers["location"]) == (303, "/console/")
        assert rejected.headers["retry-after"] == "60"
        statuses = sorted(response.status_code for response in responses)
        assert statuses == [401] * MAX_WAITING + [429] * (FAILURES - MAX_WAITING)

    asyncio.run(asyncio.wait_for(run(), 30))
    ledgers.close()
    reported = [(one.operation, one.status) for one in recorder.finished if one.key_id == created.view.id]
    assert reported == [("console/login", 303), ("console/logout", 303)]
    assert len(recorder.finished) == FAILURES + 2


def test_failed_logins_wait_longer_each_time() -> None:
    """Only those of the client, until one succeeds or they are forgotten."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def fail(client: str, times: int) -> list[float]:
        waits.clear()
        for _ in range(times):
            await delays.fail(client)
        return [*waits]

    delays = LoginDelays(sleep=sleep)
    assert asyncio.run(fail("192.0.2.1", 6)) == [0.5, 1, 2, 4, 8, 8]
    assert asyncio.run(fail("192.0.2.2", 1)) == [0.5]
    delays.succeed("192.0.2.1")
    assert asyncio.run(fail("192.0.2.1", 1)) == [0.5]
    delays = LoginDelays(sleep=sleep, forgotten_seconds=-1)
    assert asyncio.run(fail("192.0.2.1", 2)) == [0.5, 0.5]
