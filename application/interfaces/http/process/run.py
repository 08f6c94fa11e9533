"""Runs a server in this process until SIGTERM or SIGINT."""

import asyncio
import logging
import os
import resource
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET, socket

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import State

from ..app import create_app
from ..observability.access_log import AccessLog
from ..observability.metrics import Metrics, Observer
from ..request_handler import RequestHandler
from ..settings import ServerSettings
from .connection_limits import limited_protocol

MAX_OPEN_FILES = 65_536
_log = logging.getLogger("tallybook.server")


def bind_socket(settings: ServerSettings) -> socket:
    """Return a socket that listens on the configured host and port. Raises OSError."""
    listener = socket(AF_INET6 if ":" in settings.host else AF_INET)
    try:
        listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


CreateApp = Callable[[ServerSettings, Observer], Starlette]
"""Returns an application whose state has the `request_handler`."""


def run(
    settings: ServerSettings,
    listener: socket,
    *,
    is_multiprocess: bool = False,
    ready: Callable[[], None],
    create: CreateApp = create_app,
) -> int:
    """Serve until SIGTERM or SIGINT, finish accepted requests, and return the exit status."""
    _raise_file_limit()
    observer = Observer(
        Metrics(is_multiprocess=is_multiprocess),
        AccessLog(settings.access_log_customers) if settings.access_log else None,
    )
    app = create(settings, observer)
    config = uvicorn.Config(
        app,
        http=limited_protocol(settings, observer),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.drain_timeout_seconds,
    )
    server = _Server(config, ready, app.state)
    try:
        server.run([listener])
    except SystemExit:  # startup failed; uvicorn has logged the reason
        return 1
    finally:
        observer.close()
    request_handler: RequestHandler = app.state.request_handler
    if request_handler.has_abandoned_queries:
        _log.warning("Queries were still waiting for the database at shutdown; they are abandoned.")
        logging.shutdown()
        os._exit(0)  # otherwise Python would wait for their threads
    return 0


def _raise_file_limit() -> None:
    """Allow more open files, as far as the system does: each connection needs one, and so do the databases."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Server(uvicorn.Server):
    """A server that exits with status 0 on a signal, within a limited time."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], state: State) -> None:
        super().__init__(config)
        self._ready = ready
        self._state = state

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, and report that the server is ready."""
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Shut down on a signal. Uvicorn's own method raises the signal again, which changes the exit status."""
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signal_number, self._request_shutdown)
        try:
            yield
        finally:
            for signal_number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(signal_number)

    def _request_shutdown(self) -> None:
        if not self.should_exit:
            self.should_exit = True
            request_handler: RequestHandler | None = getattr(self._state, "request_handler", None)
            if request_handler is not None:  # otherwise the server is starting
                request_handler.request_shutdown()
            exit_timer = threading.Timer(2 * (self.config.timeout_graceful_shutdown or 0), _force_exit)
            exit_timer.daemon = True
            exit_timer.start()


def _force_exit() -> None:
    """Exit although a transaction is still waiting for the database. Its client has to retry."""
    _log.error("Accepted requests could not be finished in time.")
    os._exit(1)
