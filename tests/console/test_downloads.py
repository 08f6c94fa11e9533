"""Downloads of the console: their files are bounded while clients don't read them."""

import asyncio
from pathlib import Path
from typing import TextIO

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import Message, Scope
from tallybook.application.interfaces.console.app import console_routes
from tallybook.application.interfaces.console.downloads import write_download
from tallybook.application.interfaces.console.local_access import LocalAccess
from tallybook.application.interfaces.console.responses import Download
from tallybook.application.interfaces.console.users import LocalUser
from tallybook.application.interfaces.http.downloads import UnreadDownloads, WrittenDownload
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.ledgers import LedgerRegistry
from tallybook.application.interfaces.http.observability.metrics import Metrics, Observer
from tallybook.application.interfaces.http.request_handler import RequestHandler, query_limits
from tallybook.application.interfaces.http.sent_response import unread_response_budget
from tallybook.application.interfaces.http.settings import ServerSettings

from tallybook import AcceptancePolicy, utc_now

PATH, QUERY = "/console/usage.csv", "meter=calls"


def test_a_client_that_reads_nothing_gets_no_second_file(tmp_path: Path) -> None:
    """Each unread download keeps a temporary file open. The next one is possible when the client has gone."""
    url = f"sqlite:///{tmp_path}/usage.db"
    ledgers = LedgerRegistry(url, AcceptancePolicy(), utc_now)
    metering = ledgers.for_mode(livemode=True).metering
    metering.meters.configure("calls")
    metering.record("calls", {"stripe_customer_id": "acme", "value": "1"}, identifier="c-1")
    observer = Observer(Metrics(is_multiprocess=False))
    downloads = UnreadDownloads(max_bytes_per_key=1)
    access = LocalAccess()
    app = Starlette(routes=console_routes(ServerSettings(ledger=url), observer, LocalUser(access), downloads))

    async def run() -> None:
        app.state.request_handler = RequestHandler(ledgers, observer, unread_response_budget(), query_limits(30))
        is_sending, is_gone = asyncio.Event(), asyncio.Event()

        async def receive() -> Message:
            await is_gone.wait()
            return {"type": "http.disconnect"}

        async def send(_message: Message) -> None:
            is_sending.set()
            await asyncio.Event().wait()

        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", cookies=access.cookies
        ) as client:
            unread = asyncio.ensure_future(app(_scope(access), receive, send))
            await is_sending.wait()
            rejected = await client.get(f"{PATH}?{QUERY}")
            assert (rejected.status_code, rejected.headers["retry-after"]) == (429, "5")
            assert (await client.get(f"/console/usage?{QUERY}")).status_code == 200, "pages are not affected"
            is_gone.set()
            await unread
            assert (await client.get(f"{PATH}?{QUERY}")).text.count("\n") > 1
            assert (await client.get(f"{PATH}?{QUERY}")).status_code == 200, "what was read is not counted"
        await app.state.request_handler.close()

    asyncio.run(asyncio.wait_for(run(), 30))
    ledgers.close()


def test_the_budget_is_by_key_and_in_all() -> None:
    """A file that has no room is closed. A response that is never sent holds nothing."""
    downloads = UnreadDownloads(max_bytes=15, max_bytes_per_key=12)
    first, second = downloads.response(_written(6), "a"), downloads.response(_written(6), "b")
    for key, size in (("a", 7), ("b", 4)):  # one byte more than the key may have, and than all may have
        rejected = _written(size)
        with pytest.raises(ApiError, match="Finish or cancel them"):
            downloads.response(rejected, key)
        assert rejected.file.closed
    del first
    assert downloads.response(_written(6), "b").size == second.size


def _written(size: int) -> WrittenDownload:
    def write(output: TextIO) -> None:
        output.write("x" * size)

    return write_download(Download("usage.csv", write))


def _scope(access: LocalAccess) -> Scope:
    cookie = "; ".join(f"{name}={value}" for name, value in access.cookies.items())
    headers = [(b"host", b"localhost"), (b"cookie", cookie.encode())]
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": PATH, "raw_path": PATH.encode(), "query_string": QUERY.encode(), "root_path": "",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 80), "state": {},
    }  # fmt: skip
