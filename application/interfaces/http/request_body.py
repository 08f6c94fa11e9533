"""Reads requests within limits of body size, time and memory."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from starlette.requests import Request as HttpRequest

from ...uuid7 import uuid7
from .errors import ApiError
from .request_handler import ApiRequest

_DRAIN_FACTOR = 4
"""A body up to this many times too large is read completely, because a client that is sending reads no response."""


UNBUDGETED_BYTES = 64 * 1024
"""A body up to this size needs no budget."""
_MAX_LARGE_BODIES = 64
"""The budget in bodies of the maximum size. It limits the memory that callers without a key can use."""


class BodyBudget:
    """The memory for the large bodies of all requests, from the first byte until the response."""

    def __init__(self, max_body_bytes: int) -> None:
        self._free_bytes = _MAX_LARGE_BODIES * max_body_bytes

    @contextmanager
    def reserve(self) -> Generator["BodyReservation"]:
        """Reserve memory for one body."""
        reservation = BodyReservation(self)
        try:
            yield reservation
        finally:
            self.take_bytes(-reservation.reserved_bytes)

    def take_bytes(self, size: int) -> None:
        """Take bytes from the budget, or return them if negative. Raises ApiError if the budget is exhausted."""
        if size > self._free_bytes:
            raise ApiError(
                503, "Too many large bodies are being read. Retry later.", error_type="api_error",
                code="too_many_large_bodies", headers={"Connection": "close", "Retry-After": "1"},
            )  # fmt: skip
        self._free_bytes -= size


class BodyReservation:
    """The memory reserved for one body."""

    def __init__(self, budget: BodyBudget) -> None:
        self.reserved_bytes = 0
        self._budget = budget

    def grow_to(self, size: int) -> None:
        """Extend the reservation to the current size of the body. Raises ApiError."""
        if size > UNBUDGETED_BYTES:
            self._budget.take_bytes(size - self.reserved_bytes)
            self.reserved_bytes = size


def new_request_id() -> str:
    """Return an id for a request, as it appears in responses and logs."""
    return f"req_{uuid7().hex}"


async def read_request(
    request: HttpRequest, request_id: str, reservation: BodyReservation, *, max_bytes: int, timeout_seconds: float
) -> ApiRequest:
    """Return a request with its body. Raises ApiError if the body is too large or too slow."""
    headers = request.headers
    length = headers.get("content-length", "0")
    max_drained_bytes = max_bytes if "expect" in headers else _DRAIN_FACTOR * max_bytes
    if length.isdecimal() and int(length) > max_drained_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_seconds):
            # The body of a GET is read too: the next request on the connection follows it.
            body = await _read_body(request, reservation, max_bytes)
    except TimeoutError:
        raise ApiError(408, f"The body was not received within {timeout_seconds:g} seconds.", code="request_timeout",
                      headers={"Connection": "close"}) from None  # fmt: skip
    return ApiRequest(
        request_id,
        request.url.path,
        {key: str(value) for key, value in request.path_params.items()},
        request.url.query,
        body,
        headers.get("content-type", ""),
        headers.get("authorization", ""),
        headers.get("idempotency-key"),
    )


async def _read_body(request: HttpRequest, reservation: BodyReservation, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            reservation.grow_to(size)
            chunks.append(chunk)
        elif size > _DRAIN_FACTOR * max_bytes:
            break
    if size > max_bytes:
        raise _too_large(max_bytes)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"The body is larger than {max_bytes} bytes.", code="request_too_large",
                   headers={"Connection": "close"})  # fmt: skip
