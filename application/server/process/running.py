"""Running a server in this process, until it is told to end."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET, socket

import uvicorn

from ..app import application
from ..watching.access_log import AccessLog
from ..watching.measures import Measures
from ..watching.observing import Observer
from .bounds import bounded
from .settings import ServerSettings

_log = logging.getLogger("tallybook.server")


def bound_socket(settings: ServerSettings) -> socket:
    """A socket that listens where it was told to. Raises OSError."""
    opened = socket(AF_INET6 if ":" in settings.host else AF_INET)
    try:
        opened.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        opened.bind((settings.host, settings.port))
        opened.listen(2048)
    except BaseException:
        opened.close()
        raise
    return opened


def run(settings: ServerSettings, listening: socket, *, are_several: bool = False, ready: Callable[[], None]) -> int:
    """Serve until SIGTERM or SIGINT, and then answer what was accepted; give the exit status."""
    observer = Observer(Measures(are_shared=are_several), AccessLog() if settings.access_log else None)
    config = uvicorn.Config(
        application(settings, observer),
        http=bounded(settings, observer),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = _Server(config, ready)
    try:
        server.run([listening])
    except SystemExit:  # it didn't start, and has logged why
        return 1
    finally:
        observer.close()
    return 0


class _Server(uvicorn.Server):
    """A server that ends with status 0 when it is told to end, and within a bounded time."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """End when told to. Uvicorn's own way raises the signal once more in the end, so that its status tells it."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._end)
        try:
            yield
        finally:
            for one in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(one)

    def _end(self) -> None:
        if not self.should_exit:
            self.should_exit = True
            last = threading.Timer(2 * (self.config.timeout_graceful_shutdown or 0), _give_up)
            last.daemon = True
            last.start()


def _give_up() -> None:
    """End all the same, where the database keeps a transaction waiting; who waits for it settles it by a retry."""
    _log.error("What was accepted could not be settled in time.")
    os._exit(1)
