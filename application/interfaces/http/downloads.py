"""Downloads: files of any size, each written to a temporary file and sent from it, within a budget."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .errors import ApiError, rate_limited
from .memory_budget import BudgetExceeded, MemoryBudget, MemoryReservation

MAX_UNREAD_BYTES, MAX_UNREAD_BYTES_PER_KEY = 1024 * 1024 * 1024, 256 * 1024 * 1024
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class WrittenDownload:
    """A download that has been written to a temporary file, of `size` bytes."""

    name: str
    file: IO[bytes]
    size: int
    media_type: str
    status: int = 200


class UnreadDownloads:
    """The files of downloads that clients have not read yet: how many bytes they have, in all and for each key."""

    def __init__(self, *, max_bytes: int = MAX_UNREAD_BYTES, max_bytes_per_key: int = MAX_UNREAD_BYTES_PER_KEY) -> None:
        self._budget = MemoryBudget(max_bytes, max_bytes_per_key)

    def check(self, key_id: str) -> None:
        """Raise ApiError if a key has as many bytes of unread files as it may. Any thread may call this."""
        if self._budget.is_exhausted(key_id):
            raise _too_many_downloads()

    def response(
        self, download: WrittenDownload, key_id: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> "DownloadResponse":
        """Return the response that sends a file, with more headers. Is called in the event loop.

        Raises ApiError, and closes the file, if it would exceed the bytes that the key may have.
        """
        reservation = MemoryReservation(self._budget)
        try:
            reservation.resize(key_id, download.size)
        except BudgetExceeded:
            download.file.close()
            raise _too_many_downloads() from None
        return DownloadResponse(download, reservation, headers)


class DownloadResponse(StreamingResponse):
    """A response that sends a file in pieces, and holds its bytes until then.

    They are released when the file is sent, when the client has disconnected, or if the response is never sent.
    """

    def __init__(self, download: WrittenDownload, reservation: MemoryReservation, headers: Mapping[str, str]) -> None:
        name = quote(download.name, safe="")
        parameter = f'filename="{name}"' if name == download.name else f"filename*=utf-8''{name}"
        headers = {**headers, "Content-Disposition": f"attachment; {parameter}"}
        super().__init__(_pieces(download.file), headers=headers, media_type=download.media_type)
        self.size = download.size
        self._release = weakref.finalize(self, _release, download.file, reservation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()


async def _pieces(file: IO[bytes]) -> AsyncGenerator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece


def _release(file: IO[bytes], reservation: MemoryReservation) -> None:
    file.close()
    reservation.release()


def _too_many_downloads() -> ApiError:
    return rate_limited(
        "Too many bytes of other downloads wait to be read. Finish or cancel them, then try again.",
        "global-concurrency",
        retry_after_seconds=5,
    )
