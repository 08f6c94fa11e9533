"""A receiver of webhooks on this machine: it answers as it is told to, and keeps what came."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec

PATIENCE_SECONDS = 20


class Received(NamedTuple):
    """One request that came."""

    at: float
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The event in it."""
        return msgspec.json.decode(self.body, type=dict[str, Any])

    @property
    def signature(self) -> str:
        """Its signature."""
        return self.headers["Stripe-Signature"]


class Receiver:
    """Receives on loopback. It answers with `statuses` first, one each, then with 200; after `pause` seconds."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.pause = threading.Event()
        self.pause_seconds = 0.0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append(Received(time.time(), dict(self.headers.items()), body))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                if receiver.pause_seconds:
                    receiver.pause.wait(receiver.pause_seconds)
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called there
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that came, in order."""
        return [one.event for one in self.received]

    def types(self) -> list[str]:
        """Their types."""
        return [event["type"] for event in self.events]

    def wait(self, many: int) -> Sequence[Received]:
        """Wait until so many requests have come."""
        until(lambda: len(self.received) >= many, lambda: f"{len(self.received)} of {many} came: {self.types()}")
        return self.received


def until(is_so: Callable[[], bool], otherwise: Callable[[], str] = lambda: "it never was so") -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)


@contextmanager
def receiving() -> Generator[Receiver]:
    """A receiver, for a while."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.pause.set()
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()
