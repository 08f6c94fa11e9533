"""Load: posts over raw connections that stay open, one after another on each, so that the server is what is measured.

No HTTP library: one that does less than the server does would still be half of what is measured on the same cores.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .posts import Post

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to a post, and how long it took."""

    post: Post
    status: int
    body: bytes
    seconds: float

    @property
    def is_acknowledged(self) -> bool:
        """Whether the server took responsibility for what was posted."""
        return 200 <= self.status < 300


@dataclass(slots=True)
class Sent:
    """What became of all that was sent: each post is answered, or its connection went away before."""

    answers: list[Answer] = field(default_factory=list[Answer])
    unanswered: list[Post] = field(default_factory=list[Post])
    seconds: float = 0

    @property
    def acknowledged(self) -> list[Post]:
        """The posts that were answered with a success."""
        return [answer.post for answer in self.answers if answer.is_acknowledged]

    @property
    def refused(self) -> list[Answer]:
        """All other answers."""
        return [answer for answer in self.answers if not answer.is_acknowledged]


class MalformedAnswer(Exception):
    """The server said something that isn't an HTTP answer of a known length."""


def send(port: int, posts: Iterable[Post], connections: int, seconds: float) -> Sent:
    """Send posts over so many connections at once, until they or the seconds are over or the server is gone.

    Every post that was begun is in what this gives. Raises ConnectionError where no server listens.
    """
    return asyncio.run(_send(port, iter(posts), connections, seconds))


async def _send(port: int, posts: Iterator[Post], connections: int, seconds: float) -> Sent:
    sent = Sent()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    opened: list[_Connection] = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: _Connection(posts, sent, began + seconds, loop.create_future()), "127.0.0.1", port
        )
        opened.append(connection)
    await asyncio.gather(*(connection.ended for connection in opened))
    sent.seconds = time.perf_counter() - began
    return sent


class _Connection(asyncio.Protocol):
    """Sends the next post when the one before it is answered."""

    def __init__(self, posts: Iterator[Post], sent: Sent, until: float, ended: "asyncio.Future[None]") -> None:
        self.posts = posts
        self.sent = sent
        self.until = until
        self.ended = ended
        self.waiting: Post | None = None
        self.received = b""
        self.began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._send_next()

    def data_received(self, data: bytes) -> None:
        self.received += data
        try:
            answered = read_answer(self.received)
        except MalformedAnswer as malformed:
            self._end(malformed)
            return
        if answered is None:
            return
        if self.waiting is None:
            self._end(MalformedAnswer("an answer that nobody asked for"))
            return
        status, body = answered
        self.sent.answers.append(Answer(self.waiting, status, body, time.perf_counter() - self.began))
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
        post = next(self.posts, None) if time.perf_counter() < self.until else None
        if post is None:
            self.transport.close()
            return
        self.waiting, self.began = post, time.perf_counter()
        self.transport.write(post.wire)

    def _end(self, malformed: MalformedAnswer) -> None:
        self.ended.set_exception(malformed)
        self.transport.abort()


def read_answer(received: bytes) -> tuple[int, bytes] | None:
    """Status and body of the answer, once it is there as a whole."""
    head, found, body = received.partition(_END_OF_HEAD)
    if not found:
        return None
    lines = head.lower().split(b"\r\n")
    lengths = [int(line.removeprefix(_LENGTH)) for line in lines if line.startswith(_LENGTH)]
    if not lines[0].startswith(b"http/1.1 ") or len(lengths) != 1 or len(body) > lengths[0]:
        raise MalformedAnswer(repr(received[:500]))
    return (int(lines[0].split()[1]), body) if len(body) == lengths[0] else None
