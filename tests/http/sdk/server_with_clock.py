"""A server in the test's process, with a clock that the test controls."""

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
from tallybook.application.interfaces.http.app import create_app
from tallybook.application.interfaces.http.observability.metrics import Metrics, Observer
from tallybook.application.interfaces.http.settings import ServerSettings

from .server_fixture import SdkServer


@dataclass
class ShiftedClock:
    """The current time plus an offset."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class _ClockedSettings(ServerSettings):
    injected_clock: ShiftedClock

    @property
    def clock(self) -> Callable[[], datetime]:
        return self.injected_clock


@contextmanager
def sdk_server_with_clock(directory: Path, clock: ShiftedClock) -> Generator[SdkServer]:
    """Serve a new ledger file with this clock."""
    ledger = f"sqlite:///{directory / 'usage.db'}"
    with Metering.open(ledger) as metering:
        key = metering.access_keys.create(["admin"]).key
    settings = _ClockedSettings(ledger=ledger, injected_clock=clock)
    config = uvicorn.Config(
        create_app(settings, Observer(Metrics(is_multiprocess=False))), log_config=None, lifespan="on",
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
            yield SdkServer(f"http://127.0.0.1:{listening.getsockname()[1]}", ledger, key)
        finally:
            server.should_exit = True
            thread.join()
