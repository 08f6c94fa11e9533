"""Clients that send nothing more: whether one waits for its response, or has closed the connection.

A client that has closed only its sending side and a client that has closed the connection look the same, until the
server sends something: the system of the latter answers with a reset. So a client whose response takes long gets an
interim response, `100 Continue`, which clients of HTTP/1.1 skip (RFC 9110, section 15.2).
"""

import asyncio
import select
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

IS_ENDLESS = "is_endless"
"""The name in the state of a request whose response ends when its client sends nothing more.

Such a response has long pauses, in which nothing else shows that its client is gone.
"""
FIRST_CHECK_SECONDS = 0.5
"""The time until the first interim response. It is doubled each time, because clients accept only a few."""
INTERIM_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HalfClosedCheck:
    """Closes a connection if its client does not wait for the response to a query any more.

    Requests that change something are answered in any case. A client of HTTP/1.0 can't be checked: it gets the
    responses that take no longer than FIRST_CHECK_SECONDS.
    """

    def __init__(self, transport: asyncio.Transport, active_cycle: Callable[[], RequestResponseCycle | None]) -> None:
        self._transport = transport
        self._active_cycle = active_cycle
        self._seconds = FIRST_CHECK_SECONDS
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._seconds, self._check)

    def cancel(self) -> None:
        """Stop checking."""
        self._timer.cancel()

    def _check(self) -> None:
        if self._transport.is_closing():
            return
        cycle = self._active_cycle()
        if cycle is not None and not cycle.response_started and cycle.scope["method"] in {"GET", "HEAD"}:
            if cycle.scope["http_version"] == "1.0" or _is_reset(self._transport):
                self._transport.abort()
                return
            self._transport.write(INTERIM_RESPONSE)
        self._seconds *= 2
        self._timer = self._loop.call_later(self._seconds, self._check)


def _is_reset(transport: asyncio.Transport) -> bool:
    """Return whether the other side has reset the connection. Nothing else reports it while nothing is sent."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
