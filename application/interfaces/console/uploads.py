"""Reads forms with a file, within limits of size, time and number."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ...usage_import.uploads import MAX_UPLOAD_BYTES
from ..http.errors import ApiError, rate_limited
from .forms import MAX_FORM_BYTES
from .query_string import MAX_FIELDS, Parameters

TIMEOUT_SECONDS = 300.0
MAX_WAITING, MAX_WAITING_PER_KEY = 4, 2
"""One key that sends slowly leaves places to the others."""
_CHUNK_BYTES = 1024 * 1024
_MAX_BODIES = 6
"""An upload is also limited to this many times the largest body of the API; above 8 times, connections are closed."""


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file of a form, with the name that its browser gave."""

    name: str
    contents: BinaryIO

    def digest(self) -> str:
        """Return the SHA-256 of the contents."""
        digest = hashlib.sha256()
        while chunk := self.contents.read(_CHUNK_BYTES):
            digest.update(chunk)
        self.contents.seek(0)
        return digest.hexdigest()


class UploadLimit:
    """How large a file may be, and how many a process receives at once: each one is on its disk for minutes."""

    def __init__(self, max_body_bytes: int) -> None:
        self.max_bytes = min(MAX_UPLOAD_BYTES, _MAX_BODIES * max_body_bytes)
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def reservation(self, key_id: str) -> Generator[None]:
        """Hold a place for a file of an access key during the block. Raises ApiError if none is free."""
        if self._waiting[key_id] >= MAX_WAITING_PER_KEY or self._waiting.total() >= MAX_WAITING:
            raise rate_limited("Too many files are being uploaded. Try again in a moment.", "global-concurrency", 5)
        self._waiting[key_id] += 1
        try:
            yield
        finally:
            self._waiting[key_id] -= 1
            if not self._waiting[key_id]:
                del self._waiting[key_id]


async def read_file_form(request: Request, max_bytes: int) -> tuple[Parameters, UploadedFile | None]:
    """Return the fields of a form and its file, if one was chosen; the caller closes it. Raises ApiError."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "multipart/form-data":
        raise ApiError(400, "The body must be a form with a file.")
    parser = MultiPartParser(
        request.headers, _bounded(request, max_bytes), max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FORM_BYTES
    )
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            form = await parser.parse()
    except ClientDisconnect:
        raise ApiError(408, "The browser went away.") from None
    except TimeoutError:
        raise ApiError(408, "The file was not received in time.") from None
    except (MultiPartException, ValueError, KeyError):  # ValueError also if the charset is no encoding of text
        raise ApiError(400, "The form is not valid.") from None
    fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile) and value.filename]
    return Parameters(fields), UploadedFile(files[0].filename or "", files[0].file) if files else None


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes + 2 * MAX_FORM_BYTES:
            raise ApiError(413, f"The file has more than {max_bytes:,} bytes. Divide or compress it.")
        yield chunk
