"""Reads requests within limits of body size, time and memory."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from starlette.requests import Request as HttpRequest

from ....domain.authorship import REQUEST_PREFIX
from .api_request import ApiRequest, is_json
from .errors import ApiError
from .memory_budget import BudgetExceeded, MemoryBudget, MemoryReservation

MAX_SMALL_BODY_BYTES = 512 * 1024
"""The limit of what is not JSON or records no events. A form, and the parameters of rules, take far more time and
memory to parse than meter events do.
"""
UNBUDGETED_BYTES = 16 * 1024
"""A larger body is read only for a valid access key, and within the memory budget of the key."""
_DRAIN_FACTOR = 4
"""A body up to this many times too large is read completely, because a client that is sending reads no response."""
_MAX_LARGE_BODIES, _MAX_LARGE_BODIES_PER_KEY = 32, 4
"""The memory budget in bodies of the maximum size."""
_MAX_LENGTH_DIGITS = 18
_REQUEST_ID_BYTES = 10

_ATTRIBUTE = "ce-"
"""How the headers of a CloudEvent in binary mode begin."""

FindKey = Callable[[str], Awaitable[str]]
"""Returns the id of the access key of an Authorization header. Raises ApiError."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of one body: its size, that of a small one, and the time in which it has to be received."""

    max_bytes: int
    timeout_seconds: float
    max_small_bytes: int = MAX_SMALL_BODY_BYTES

    def of(self, content_type: str) -> int:
        """Return the maximum size of a body with a content type."""
        return self.max_bytes if is_json(content_type) else min(self.max_small_bytes, self.max_bytes)

    def without_events(self) -> "BodyLimits":
        """Return the limits of a request that records no events."""
        return replace(self, max_bytes=min(self.max_small_bytes, self.max_bytes))

    def budget(self) -> MemoryBudget:
        """Return the budget of all bodies, from the first byte until the response."""
        return MemoryBudget(_MAX_LARGE_BODIES * self.max_bytes, _MAX_LARGE_BODIES_PER_KEY * self.max_bytes)


def new_request_id() -> str:
    """Return an id for a request: short, because each meter event is stored with that of its request."""
    return f"{REQUEST_PREFIX}{secrets.token_urlsafe(_REQUEST_ID_BYTES)}"


async def read_request(
    request: HttpRequest, request_id: str, limits: BodyLimits, reservation: MemoryReservation, find_key: FindKey
) -> ApiRequest:
    """Return a request with its body. Raises ApiError if the body is too large or too slow."""
    headers = request.headers
    max_bytes, drained_bytes = limits.of(headers.get("content-type", "")), _DRAIN_FACTOR * limits.max_bytes
    if _exceeds(headers.get("content-length", "0"), max_bytes if "expect" in headers else drained_bytes):
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(limits.timeout_seconds):
            # The body of a GET is read too: the next request on the connection follows it.
            body = await _read_body(request, max_bytes, drained_bytes, reservation, find_key)
    except TimeoutError:
        raise ApiError(
            408, f"The body was not received within {limits.timeout_seconds:g} seconds.", code="request_timeout",
            headers={"Connection": "close"},
        ) from None  # fmt: skip
    return ApiRequest(
        request_id,
        request.url.path,
        {key: str(value) for key, value in request.path_params.items()},
        request.url.query,
        body,
        headers.get("content-type", ""),
        headers.get("authorization", ""),
        headers.get("idempotency-key"),
        {name.removeprefix(_ATTRIBUTE): value for name, value in headers.items() if name.startswith(_ATTRIBUTE)},
    )


async def _read_body(
    request: HttpRequest, max_bytes: int, drained_bytes: int, reservation: MemoryReservation, find_key: FindKey
) -> bytes:
    """Return the body. One that is not accepted is read to its end, without holding it, before ApiError is raised."""
    chunks: list[bytes] = []
    size = 0
    key_id: str | None = None
    error: ApiError | None = None
    async for chunk in request.stream():
        size += len(chunk)
        try:
            if error is None and size > max_bytes:
                raise _too_large(max_bytes)
            if error is None and size > UNBUDGETED_BYTES:
                if key_id is None:
                    key_id = await find_key(request.headers.get("authorization", ""))
                reservation.resize(key_id, size)
        except BudgetExceeded:
            error = _too_many_large_bodies()
        except ApiError as api_error:
            error = api_error
        if error is None:
            chunks.append(chunk)
        else:
            chunks.clear()
            reservation.release()
        if size > drained_bytes:
            break
    if error is not None:
        raise error
    return b"".join(chunks)


def _exceeds(content_length: str, max_bytes: int) -> bool:
    """Return whether a Content-Length, which may have any number of digits, is larger."""
    digits = content_length.lstrip("0")
    return digits.isdecimal() and (len(digits) > _MAX_LENGTH_DIGITS or int(digits) > max_bytes)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"The body is larger than {max_bytes} bytes.", code="request_too_large",
                   headers={"Connection": "close"})  # fmt: skip


def _too_many_large_bodies() -> ApiError:
    return ApiError(
        503, "Too many large bodies are being read. Retry later.", error_type="api_error",
        code="too_many_large_bodies", headers={"Connection": "close", "Retry-After": "1"},
    )  # fmt: skip
