"""Reception: a request is read off the connection, within limits."""

import asyncio

from starlette.requests import Request as Received
from uuid_utils import uuid7

from .refusals import Refusal
from .service import Request

_READ_FOR_NOTHING = 4
"""How many times the size that is taken is read of a larger body: who is cut off while sending isn't told why."""


def request_id() -> str:
    """A name for a request, by which its traces are found."""
    return f"req_{uuid7().hex}"


async def received(request: Received, name: str, *, most_bytes: int, most_seconds: float) -> Request:
    """A request, with its body. Raises Refusal where that is too large, or too slow in coming."""
    headers = request.headers
    length = headers.get("content-length", "0")
    most = most_bytes if "expect" in headers else _READ_FOR_NOTHING * most_bytes
    if length.isdecimal() and int(length) > most:
        raise _too_large(most_bytes)
    try:
        async with asyncio.timeout(most_seconds):
            body = await _body(request, most_bytes)  # that of a GET too: the connection goes on after it
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


async def _body(request: Received, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= most_bytes:
            parts.append(part)
        elif size > _READ_FOR_NOTHING * most_bytes:
            break
    if size > most_bytes:
        raise _too_large(most_bytes)
    return b"".join(parts)


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(413, f"The body is larger than {most_bytes} bytes.", code="request_too_large",
                   headers={"Connection": "close"})  # fmt: skip
