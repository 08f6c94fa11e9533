"""Progress streams: open responses that send the progress of a task as server-sent events, until it ends.

A stream also ends when shutdown begins, when the session ends, and when its browser disconnects. Each one polls the
state that the task's own process stores, so that it doesn't matter which process runs the task.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from time import monotonic

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ....domain.errors import TallybookError
from ...jobs.tasks import TaskStatus, TaskView
from ..http.errors import ApiError, rate_limited
from ..http.process.half_closed import IS_ENDLESS
from .tasks import progress_text

POLL_SECONDS = 0.5
COMMENT_SECONDS = 15.0
"""How often something is sent, so that proxies don't close the connection."""
MAX_STREAMS, MAX_STREAMS_PER_KEY = 64, 4
"""A browser has six connections to a server, and needs some for pages. A page without a stream reloads itself."""
_RETRY_MILLISECONDS = 3_000

FindTask = Callable[[], Awaitable[TaskView | None]]
"""Returns the task as it is now; None if its user may no longer see it."""


class ProgressStreams:
    """The open streams of a process: a limited number in all, and of each access key."""

    def __init__(self, *, max_streams: int = MAX_STREAMS, max_streams_per_key: int = MAX_STREAMS_PER_KEY) -> None:
        self._max_streams = max_streams
        self._max_streams_per_key = max_streams_per_key
        self._open: Counter[str] = Counter()

    def response(self, key_id: str, find: FindTask, shutdown: asyncio.Event) -> "ProgressResponse":
        """Return the response that sends the progress of a task. Raises ApiError if too many are open."""
        if self._open[key_id] >= self._max_streams_per_key or self._open.total() >= self._max_streams:
            raise rate_limited("Too many pages show progress. Close one of them.", "global-concurrency", 5)
        self._open[key_id] += 1
        return ProgressResponse(_messages(find, shutdown), lambda: self._close(key_id))

    def _close(self, key_id: str) -> None:
        self._open[key_id] -= 1
        if not self._open[key_id]:
            del self._open[key_id]


class ProgressResponse(StreamingResponse):
    """A response of server-sent events. It calls `on_end` however it ends."""

    def __init__(self, messages: AsyncGenerator[str], on_end: Callable[[], None]) -> None:
        super().__init__(messages, headers={"X-Accel-Buffering": "no"}, media_type="text/event-stream")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the messages."""
        scope.setdefault("state", {})[IS_ENDLESS] = True
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


async def _messages(find: FindTask, shutdown: asyncio.Event) -> AsyncGenerator[str]:
    """Yield a message for each change of a task, and one at the end; none at the end if the process ends."""
    shown, sent_at = None, monotonic()
    yield f"retry: {_RETRY_MILLISECONDS}\n\n"
    while True:
        try:
            task = await find()
        except (ApiError, TallybookError):  # the page that is loaded next says what is wrong
            task = None
        if task is None or task.status is not TaskStatus.RUNNING:
            yield "event: end\ndata:\n\n"
            return
        data = msgspec.json.encode({"done": task.done, "total": task.total, "text": progress_text(task)}).decode()
        if data != shown:
            shown, sent_at = data, monotonic()
            yield f"event: progress\ndata: {data}\n\n"
        elif monotonic() - sent_at > COMMENT_SECONDS:
            sent_at = monotonic()
            yield ":\n\n"
        try:
            await asyncio.wait_for(shutdown.wait(), POLL_SECONDS)
        except TimeoutError:
            continue
        return
