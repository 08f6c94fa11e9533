"""A local webhook receiver with configurable responses."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec

from tests.waiting import wait_until

TIMEOUT_SECONDS = 20


class Received(NamedTuple):
    """One received request."""

    at: float
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """Return the event of the body."""
        return msgspec.json.decode(self.body, type=dict[str, Any])

    @property
    def signature(self) -> str:
        """Return the signature header."""
        return self.headers["Stripe-Signature"]


class Receiver:
    """A receiver on loopback. It responds with each of `statuses` once, then with 200, after `pause_seconds`."""

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
        """Return the received events, in order."""
        return [request.event for request in self.received]

    def types(self) -> list[str]:
        """Return the types of the received events."""
        return [event["type"] for event in self.events]

    def wait(self, count: int) -> Sequence[Received]:
        """Wait until this many requests have been received."""
        wait_until(lambda: len(self.received) >= count, lambda: f"{len(self.received)} of {count} came: {self.types()}")
        return self.received


@contextmanager
def run_receiver() -> Generator[Receiver]:
    """Run a receiver until the end of the block."""
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
