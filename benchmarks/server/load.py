"""Sends POST requests over raw persistent connections, one after another on each.

There is no HTTP library, because it would use as much of the same cores as the server that is measured.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .http_requests import PostRequest

_HEADER_END = b"\r\n\r\n"
_CONTENT_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a request, and its duration in seconds."""

    post: PostRequest
    status: int
    body: bytes
    seconds: float

    @property
    def is_acknowledged(self) -> bool:
        """Return whether the server acknowledged the request."""
        return 200 <= self.status < 300


@dataclass(slots=True)
class SendResult:
    """The outcome of all requests: each has a response, or its connection was lost before."""

    responses: list[Response] = field(default_factory=list[Response])
    unanswered: list[PostRequest] = field(default_factory=list[PostRequest])
    seconds: float = 0

    @property
    def acknowledged(self) -> list[PostRequest]:
        """Return the requests with a successful response."""
        return [response.post for response in self.responses if response.is_acknowledged]

    @property
    def rejected(self) -> list[Response]:
        """Return the responses that are not successful."""
        return [response for response in self.responses if not response.is_acknowledged]


class MalformedResponse(Exception):
    """The server sent something other than an HTTP response with a content length."""


def send(port: int, posts: Iterable[PostRequest], connections: int, seconds: float) -> SendResult:
    """Send requests over several connections until they or the time run out, or the server closes the connections.

    The result contains every request whose sending was started. Raises ConnectionError if no server listens.
    """
    return asyncio.run(_send(port, iter(posts), connections, seconds))


async def _send(port: int, posts: Iterator[PostRequest], connections: int, seconds: float) -> SendResult:
    sent = SendResult()
    loop = asyncio.get_running_loop()
    started_at = time.perf_counter()
    opened: list[_Connection] = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: _Connection(posts, sent, started_at + seconds, loop.create_future()), "127.0.0.1", port
        )
        opened.append(connection)
    await asyncio.gather(*(connection.ended for connection in opened))
    sent.seconds = time.perf_counter() - started_at
    return sent


class _Connection(asyncio.Protocol):
    """Sends the next request when the response to the previous one is complete."""

    def __init__(
        self, posts: Iterator[PostRequest], sent: SendResult, deadline: float, ended: "asyncio.Future[None]"
    ) -> None:
        self.posts = posts
        self.sent = sent
        self.deadline = deadline
        self.ended = ended
        self.waiting: PostRequest | None = None
        self.received = b""
        self.started_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._send_next()

    def data_received(self, data: bytes) -> None:
        self.received += data
        try:
            parsed = parse_response(self.received)
        except MalformedResponse as malformed:
            self._close(malformed)
            return
        if parsed is None:
            return
        if self.waiting is None:
            self._close(MalformedResponse("a response without a request"))
            return
        status, body = parsed
        self.sent.responses.append(Response(self.waiting, status, body, time.perf_counter() - self.started_at))
        self.waiting, self.received = None, b""
        self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own name
        if self.waiting is not None:
            self.sent.unanswered.append(self.waiting)
            self.waiting = None
        if not self.ended.done():
            self.ended.set_result(None)

    def _send_next(self) -> None:
        if self.transport.is_closing():
            return
        post = next(self.posts, None) if time.perf_counter() < self.deadline else None
        if post is None:
            self.transport.close()
            return
        self.waiting, self.started_at = post, time.perf_counter()
        self.transport.write(post.raw)

    def _close(self, malformed: MalformedResponse) -> None:
        self.ended.set_exception(malformed)
        self.transport.abort()


def parse_response(received: bytes) -> tuple[int, bytes] | None:
    """Return status and body of the response, or None if it is incomplete."""
    head, separator, body = received.partition(_HEADER_END)
    if not separator:
        return None
    lines = head.lower().split(b"\r\n")
    lengths = [int(line.removeprefix(_CONTENT_LENGTH)) for line in lines if line.startswith(_CONTENT_LENGTH)]
    if not lines[0].startswith(b"http/1.1 ") or len(lengths) != 1 or len(body) > lengths[0]:
        raise MalformedResponse(repr(received[:500]))
    return (int(lines[0].split()[1]), body) if len(body) == lengths[0] else None
