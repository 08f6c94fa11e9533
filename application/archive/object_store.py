"""An archive in an object store, through the package obstore.

A store has no locks. Instead, a segment is only created if there is none of its name, and the manifest is only replaced
if it is still the one that was read. So of two exports at once, one stores a segment, and the other starts again.
"""

import io
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from typing import Any, BinaryIO

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError

from ...domain.errors import ArchiveUnavailable, InvalidArchive
from ..object_stores import first_line, open_object_store
from .destinations import ConcurrentExport, StoredManifest
from .layout import FOLDER, MANIFEST


def open_destination(url: str, retry_timeout: timedelta | None = None) -> "ObjectStoreDestination":
    """Return the destination of a URL, such as s3://bucket/prefix. Raise InvalidArchive."""
    problem, advice = f"There can be no archive at {url!r}", "Use a folder, or a URL like s3://bucket/prefix."
    store = open_object_store(url, InvalidArchive, "destination", problem, advice, retry_timeout)
    return ObjectStoreDestination(store, url)


_PART_BYTES = 1 << 18
"""How much is loaded at once of a segment of which little is read. A row group takes 50 kB."""


class ObjectStoreDestination:
    """A prefix of an object store."""

    def __init__(self, store: Any, url: str | None = None) -> None:
        self._store = store
        self._url = repr(store) if url is None else url.rstrip("/")

    @property
    def location(self) -> str:
        """Return the URL."""
        return self._url

    def exclusive(self) -> AbstractContextManager[None]:
        """Exclude no other export: each change is conditional."""
        return nullcontext()

    def read_manifest(self) -> StoredManifest:
        """Return the manifest, and its ETag and version."""
        with self._reported(MANIFEST):
            try:
                result = obstore.get(self._store, MANIFEST)
            except FileNotFoundError:
                return StoredManifest(b"")
            version = {name: result.meta[name] for name in ("e_tag", "version") if result.meta[name] is not None}
            return StoredManifest(bytes(result.bytes()), version)

    def replace_manifest(self, data: bytes, previous: StoredManifest) -> None:
        """Replace the manifest if it is still the previous one. Raise ConcurrentExport."""
        mode: Any = "create" if previous.version is None else previous.version
        with self._reported(MANIFEST):
            obstore.put(self._store, MANIFEST, data, mode=mode, use_multipart=False)

    def file_names(self, folder: str = FOLDER) -> Iterable[str]:
        """Return the names of the objects in a folder."""
        with self._reported(folder):
            pages: Any = obstore.list(self._store, f"{folder}/")  # pyright: ignore[reportUnknownMemberType]
            return [entry["path"] for entries in pages for entry in entries]

    def add_segment(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Store what `write` writes, by way of a temporary file. Raise ConcurrentExport if there is such a segment."""
        with tempfile.TemporaryFile() as file:
            try:
                write(file)
            except OSError as error:
                raise ArchiveUnavailable(
                    f"A temporary file in {tempfile.gettempdir()} can't be written: {error.strerror or error}.",
                    field="destination",
                    value=self.location,
                ) from error
            file.seek(0)
            with self._reported(name):
                obstore.put(self._store, name, file, mode="create", use_multipart=False)

    def open_segment(self, name: str) -> BinaryIO:
        """Load a segment."""
        with self._reported(name):
            return io.BytesIO(obstore.get(self._store, name).bytes())

    def open_parts(self, name: str) -> BinaryIO:
        """Open a segment. What is read of it is loaded then, with what follows it."""
        with self._reported(name):
            size = obstore.head(self._store, name)["size"]
        return io.BufferedReader(_ObjectParts(partial(self._load_part, name), size), _PART_BYTES)

    def _load_part(self, name: str, start: int, length: int) -> bytes:
        with self._reported(name):
            return obstore.get_range(self._store, name, start=start, length=length).to_bytes()

    def delete_segment(self, name: str) -> None:
        """Delete a segment."""
        with suppress(FileNotFoundError), self._reported(name):
            obstore.delete(self._store, name)

    def url(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self._url}/{name}"

    @contextmanager
    def _reported(self, name: str) -> Generator[None]:
        """Raise ConcurrentExport if a condition isn't met, and ArchiveUnavailable for other errors of the store."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (AlreadyExistsError, PreconditionError) as error:
            raise ConcurrentExport(name) from error
        except (NotSupportedError, NotImplementedError) as error:
            raise InvalidArchive(
                f"{self.location} has no conditional writes, which an export needs: {first_line(error)}.",
                field="destination",
                value=self.location,
            ) from error
        except (BaseError, OSError) as error:
            raise ArchiveUnavailable(
                f"{self.location} can't be used: {first_line(error)}.", field="destination", value=self.location
            ) from error


class _ObjectParts(io.RawIOBase):
    """A file of which each part is loaded when it is read."""

    def __init__(self, load_part: Callable[[int, int], bytes], size: int) -> None:
        self._load_part = load_part
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Return whether it can be read from any position."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position of the next read, and return it."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Load as much as fits in a buffer, and return the number of bytes."""
        target = memoryview(buffer).cast("B")
        length = max(0, min(len(target), self._size - self._position))
        if length:
            target[:length] = self._load_part(self._position, length)
            self._position += length
        return length
