"""The methods of uvicorn that the server overrides exist there and are called: an upgrade can't disable a limit."""

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tallybook.application.interfaces.http.app import create_app
from tallybook.application.interfaces.http.observability.metrics import Metrics, Observer
from tallybook.application.interfaces.http.process import run as run_module
from tallybook.application.interfaces.http.process.connection_limits import LimitedProtocol, limited_protocol
from tallybook.application.interfaces.http.settings import ServerSettings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.http.ops.connection import Connection, get_request, post_head
from tests.http.ops.protocol_server import run_uvicorn
from tests.http.running_server import serve
from tests.waiting import wait_until

OVERRIDDEN_BY_THE_PROTOCOL = {
    "_start_asgi_task", "_unsupported_upgrade_warning", "connection_lost", "connection_made", "data_received",
    "eof_received", "on_body", "on_header", "on_headers_complete", "on_message_begin", "on_message_complete",
    "on_response_complete", "on_url", "pause_writing", "resume_writing", "send_400_response",
}  # fmt: skip
OVERRIDDEN_BY_THE_SERVER = {"capture_signals", "startup"}
LARGE_RESPONSE_PATH = "/openapi.json"
MANY = 50
"""More of these responses than the buffers of a connection hold."""


def overridden_methods(cls: type, base: type) -> set[str]:
    """Return the methods of a class that its base class has too, except those for its creation."""
    return {name for name, member in vars(cls).items() if callable(member) and hasattr(base, name)} - {"__init__"}


class CallCounter:
    """Counts the calls of the overridden methods."""

    def __init__(self) -> None:
        self.called: set[str] = set()

    def counting(self, protocol: type[LimitedProtocol]) -> type[LimitedProtocol]:
        """Return a subclass that notes each call before it calls the method."""
        return type("Counting", (protocol,), {name: self._note(name) for name in OVERRIDDEN_BY_THE_PROTOCOL})

    def _note(self, name: str) -> Any:
        def method(protocol: Any, *args: Any) -> Any:
            self.called.add(name)
            return getattr(LimitedProtocol, name)(protocol, *args)

        return method


@contextmanager
def counted_server(folder: Path, counter: CallCounter) -> Generator[Any]:
    """Run a server in a thread, with the protocol of `tallybook serve`, and yield its address."""
    settings = ServerSettings(ledger=f"sqlite:///{folder / 'usage.db'}", port=0)
    observer = Observer(Metrics(is_multiprocess=False))
    protocol = counter.counting(limited_protocol(settings, observer))
    config = uvicorn.Config(create_app(settings, observer), http=protocol, ws="none", log_config=None)
    with run_uvicorn(config, settings) as address:
        yield address
    observer.close()


def test_the_overridden_methods_are_those_of_uvicorn() -> None:
    """A method that uvicorn renames or removes would never be called. New overrides are added to these lists."""
    assert overridden_methods(LimitedProtocol, HttpToolsProtocol) == OVERRIDDEN_BY_THE_PROTOCOL
    server_class = run_module._Server  # pyright: ignore[reportPrivateUsage]
    assert overridden_methods(server_class, uvicorn.Server) == OVERRIDDEN_BY_THE_SERVER


@pytest.mark.parametrize("name", sorted(OVERRIDDEN_BY_THE_PROTOCOL))
def test_an_overridden_method_has_the_parameters_of_the_base(name: str) -> None:
    """So that uvicorn can call it."""
    base, own = getattr(HttpToolsProtocol, name), getattr(LimitedProtocol, name)
    assert list(inspect.signature(own).parameters) == list(inspect.signature(base).parameters)


def test_uvicorn_calls_every_overridden_method(tmp_path: Path) -> None:
    """In requests with a body, with an upgrade, that aren't HTTP, and whose response is read slowly."""
    counter = CallCounter()
    with counted_server(tmp_path, counter) as address:
        with Connection(address).send(post_head("/v1/nothing", "Content-Length: 2") + "{}") as connection:
            assert connection.read_response().status == 404
        with Connection(address).send(get_request("/livez", "Connection: Upgrade", "Upgrade: h2c")) as connection:
            assert connection.read_response().status == 200
        with Connection(address).send("no HTTP\r\n\r\n") as connection:
            assert connection.read_response().status == 400
        with Connection(address) as connection:
            connection.send(get_request(LARGE_RESPONSE_PATH) * MANY)
            wait_until(lambda: "pause_writing" in counter.called)
            for _ in range(MANY):
                connection.read_response()
        wait_until(lambda: counter.called == OVERRIDDEN_BY_THE_PROTOCOL, lambda: f"only {sorted(counter.called)}")


def test_uvicorn_calls_the_overridden_methods_of_the_server(tmp_path: Path) -> None:
    """`startup` prints the address; without `capture_signals` the exit status would be that of the signal."""
    with serve(f"sqlite:///{tmp_path / 'usage.db'}") as server:
        assert server.startup_line
        assert server.stop() == 0
