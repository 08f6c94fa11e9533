"""The protocol of `tallybook serve`, with an application that a test controls."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from tallybook.application.interfaces.http.authentication import IS_AUTHENTICATED
from tallybook.application.interfaces.http.observability.metrics import Metrics, Observer
from tallybook.application.interfaces.http.process.connection_limits import limited_protocol
from tallybook.application.interfaces.http.process.run import bind_socket
from tallybook.application.interfaces.http.settings import ServerSettings

from tests.http.running_server import TIMEOUT_SECONDS
from tests.waiting import wait_until

POLL_SECONDS = 0.01
LARGE_BODY = "x" * 20_000_000
"""More than the buffers of a connection hold."""


@dataclass(slots=True)
class ControlledApp:
    """Answers `/slow` when a test releases it, `/large` with much, and other paths at once."""

    released: threading.Event = field(default_factory=threading.Event)
    started: int = 0
    abandoned: int = 0
    """How many slow requests have no client any more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. A request with an Authorization header counts as authenticated."""
        request = Request(scope, receive)
        body = await request.body()
        setattr(request.state, IS_AUTHENTICATED, "authorization" in request.headers)
        if request.url.path == "/slow":
            self.started += 1
            while not self.released.is_set():
                if await request.is_disconnected():
                    self.abandoned += 1
                    return
                await asyncio.sleep(POLL_SECONDS)
        text = LARGE_BODY if request.url.path == "/large" else f"{request.method} {body.decode()}"
        await PlainTextResponse(text)(scope, receive, send)

    def wait_until_started(self, count: int) -> None:
        """Wait until this many slow requests have started."""
        wait_until(lambda: self.started >= count, lambda: f"{self.started} of {count} have started")


@contextmanager
def serve_app(app: ASGIApp, **limits: Any) -> Generator[Any]:
    """Serve an application in a thread, with some limits, and yield its address."""
    settings = ServerSettings(port=0, **limits)
    observer = Observer(Metrics(is_multiprocess=False))
    config = uvicorn.Config(
        app, http=limited_protocol(settings, observer), ws="none", lifespan="off", log_config=None,
        timeout_keep_alive=settings.keep_alive_seconds,
    )  # fmt: skip
    with run_uvicorn(config, settings) as address:
        yield address
    observer.close()


@contextmanager
def run_uvicorn(config: uvicorn.Config, settings: ServerSettings) -> Generator[Any]:
    """Run a server in a thread, and yield its address."""
    server, listener = uvicorn.Server(config), bind_socket(settings)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield SimpleNamespace(port=listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(TIMEOUT_SECONDS)
