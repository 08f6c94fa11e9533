"""Reception: a request is read off the connection, within limits."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from starlette.requests import Request as Received
from uuid_utils import uuid7

from .refusals import Refusal
from .service import Request

_READ_FOR_NOTHING = 4
"""How many times the size that is taken is read of a larger body: who is cut off while sending isn't told why."""


SMALL_BYTES = 64 * 1024
"""For a body of this size there is always room."""
_LARGE_BODIES = 64
"""For how many of the largest bodies there is room at once: the memory isn't theirs who have no key."""


class Room:
    """Room for large bodies, of all requests together, from when they begin to come until they are answered."""

    def __init__(self, most_bytes: int) -> None:
        self._free = _LARGE_BODIES * most_bytes

    @contextmanager
    def place(self) -> Generator["Place"]:
        """The place of one body in it."""
        place = Place(self)
        try:
            yield place
        finally:
            self.take(-place.taken)

    def take(self, size: int) -> None:
        """Take so many bytes, or give them back. Raises Refusal where there is no room."""
        if size > self._free:
            raise Refusal(
                503, "Too many large bodies are being read. Try again later.", kind="api_error",
                code="too_many_large_bodies", headers={"Connection": "close", "Retry-After": "1"},
            )  # fmt: skip
        self._free -= size


class Place:
    """What one body takes of the room."""

    def __init__(self, room: Room) -> None:
        self.taken = 0
        self._room = room

    def grow(self, size: int) -> None:
        """Be as large as the body is now. Raises Refusal."""
        if size > SMALL_BYTES:
            self._room.take(size - self.taken)
            self.taken = size


def request_id() -> str:
    """A name for a request, by which its traces are found."""
    return f"req_{uuid7().hex}"


async def received(request: Received, name: str, place: Place, *, most_bytes: int, most_seconds: float) -> Request:
    """A request, with its body. Raises Refusal where that is too large, or too slow in coming."""
    headers = request.headers
    length = headers.get("content-length", "0")
    most = most_bytes if "expect" in headers else _READ_FOR_NOTHING * most_bytes
    if length.isdecimal() and int(length) > most:
        raise _too_large(most_bytes)
    try:
        async with asyncio.timeout(most_seconds):
            body = await _body(request, place, most_bytes)  # that of a GET too: the connection goes on after it
    except TimeoutError:
        raise Refusal(408, f"The body didn't come within {most_seconds:g} seconds.", code="request_timeout",
                      headers={"Connection": "close"}) from None  # fmt: skip
    return Request(
        name,
        request.url.path,
        {key: str(value) for key, value in request.path_params.items()},
        request.url.query,
        body,
        headers.get("content-type", ""),
        headers.get("authorization", ""),
        headers.get("idempotency-key"),
    )


async def _body(request: Received, place: Place, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= most_bytes:
            place.grow(size)
            parts.append(part)
        elif size > _READ_FOR_NOTHING * most_bytes:
            break
    if size > most_bytes:
        raise _too_large(most_bytes)
    return b"".join(parts)


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(413, f"The body is larger than {most_bytes} bytes.", code="request_too_large",
                   headers={"Connection": "close"})  # fmt: skip
