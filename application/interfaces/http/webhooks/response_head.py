"""Limits the head of a response, which includes any number of interim responses such as `100 Continue`."""

import ssl
from typing import Any

import httpcore2

MAX_HEAD_BYTES = 32 * 1024


class HeadTooLarge(Exception):
    """The receiver sent more bytes than the head of a response may have, without its end."""


class HeadLimitedStream(httpcore2.AsyncNetworkStream):
    """A connection from which only the heads of responses are read."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, max_bytes: int = MAX_HEAD_BYTES) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._read_bytes = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return received bytes. Raises HeadTooLarge if the response has more without the end of its head."""
        if self._read_bytes >= self._max_bytes:
            raise HeadTooLarge(f"The response has more than {self._max_bytes} bytes before the end of its header.")
        data = await self._stream.read(min(max_bytes, self._max_bytes - self._read_bytes), timeout)
        self._read_bytes += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send a part of a request. Another response follows it."""
        self._read_bytes = 0
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Return the connection with TLS."""
        return HeadLimitedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._max_bytes)

    def get_extra_info(self, info: str) -> Any:
        """Return a detail of the connection."""
        return self._stream.get_extra_info(info)
