"""A server in the test's own process, whose clock the test moves."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server
from time import sleep

import uvicorn
from tallybook.application import Metering
from tallybook.application.server.app import application
from tallybook.application.server.process.settings import ServerSettings
from tallybook.application.server.watching.measures import Measures
from tallybook.application.server.watching.observing import Observer

from .place import Place


@dataclass
class MovedClock:
    """The time, moved on by what a test says."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class _Clocked(ServerSettings):
    moved: MovedClock

    @property
    def clock(self) -> Callable[[], datetime]:
        return self.moved


@contextmanager
def clocked_place(directory: Path, clock: MovedClock) -> Generator[Place]:
    """A server over a new ledger file, by this clock."""
    ledger = f"sqlite:///{directory / 'usage.db'}"
    with Metering.open(ledger) as metering:
        key = metering.create_access_key(["admin"]).key
    settings = _Clocked(ledger=ledger, moved=clock)
    config = uvicorn.Config(
        application(settings, Observer(Measures(are_shared=False))), log_config=None, lifespan="on",
        ws="none",
    )  # fmt: skip
    server = uvicorn.Server(config)
    with create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                sleep(0.01)
            yield Place(f"http://127.0.0.1:{listening.getsockname()[1]}", ledger, key)
        finally:
            server.should_exit = True
            thread.join()
