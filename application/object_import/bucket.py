"""The objects below a URL: listed page by page, and read in the version that was listed."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import LocalStore

from ...domain.errors import InvalidImportFile, InvalidUsageSource, UsageSourceUnavailable
from ..object_stores import first_line, open_object_store
from ..usage_import.files import ProgressCallback
from .local_files import LocalFile, local_files
from .stored_object import ObjectChanged, StoredObject, is_outside

_CHUNK_BYTES = 1 << 20
_PAGE_SIZE = 1_000
_ADVICE = "Name a bucket and a prefix, like s3://bucket/prefix; also gs://, az:// and file:///."


class Bucket:
    """The objects below a URL, such as s3://bucket/prefix; or the one object that it names."""

    def __init__(self, url: str) -> None:
        """Raise InvalidUsageSource."""
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme == "file" and not Path(folder := url2pathname(parts.path)).exists():
            raise InvalidUsageSource(f"There is no folder or file {folder}.", field="url", value=url)
        self._store: Any = _open_store(self.url)
        if type(self._store).__name__ == "HTTPStore":
            raise InvalidUsageSource(
                f"{url!r} can't be used: {parts.scheme}:// has no list of objects. {_ADVICE}", field="url", value=url
            )
        self._folder = self.url
        self._local_folder = self._store.prefix if isinstance(self._store, LocalStore) else None
        """The folder of a file URL. Links out of it are not followed: who stores objects in it could read any file."""

    def pages(self) -> Iterator[list[StoredObject]]:
        """Yield the objects, about a thousand at a time. Raise UsageSourceUnavailable."""
        is_empty = True
        with self._reported(self.url):
            for objects in self._listed_pages():
                if objects:
                    is_empty = False
                    yield sorted(objects, key=lambda stored: stored.key)
        if is_empty:
            yield [self._single_object()]

    def read(self, stored: StoredObject, file: BinaryIO, max_bytes: int | None, advance: ProgressCallback) -> None:
        """Write the version that was listed to a file. `advance` is called after each part.

        Raise ObjectChanged, UsageSourceUnavailable, or InvalidImportFile if it is too large.
        """
        if max_bytes is not None and stored.size > max_bytes:
            raise InvalidImportFile(
                f"{stored.key}: it has over {max_bytes:,} bytes. Divide it, or raise the limit.",
                field="file",
                value=stored.key,
            )
        if stored.has_invalid_name:
            raise InvalidImportFile(
                f"{stored.key}: its path has control characters, or bytes that are not UTF-8. Rename it.",
                field="file",
                value=stored.key,
            )
        if self._is_outside(stored.key):
            raise ObjectChanged
        options: Any = None if stored.e_tag is None else {"if_match": stored.e_tag}
        with self._reported(stored.url):
            try:
                for chunk in obstore.get(self._store, stored.key, options=options).stream(_CHUNK_BYTES):
                    file.write(chunk)
                    advance(file.tell(), stored.size)
            except (PreconditionError, FileNotFoundError) as error:
                raise ObjectChanged from error
        file.seek(0)

    def _listed_pages(self) -> Iterator[list[StoredObject]]:
        """Yield the objects; those of a folder file by file, because obstore's list ends at a loop or an odd name."""
        if self._local_folder is None or not self._local_folder.is_dir():
            for entries in cast(Any, obstore).list(self._store):
                yield [self._object(entry) for entry in entries]
            return
        files = local_files(self._local_folder)
        while page := list(islice(files, _PAGE_SIZE)):
            yield [stored for file in page for stored in self._local_objects(file)]

    def _local_objects(self, file: LocalFile) -> list[StoredObject]:
        """Return the object of a file; none if it was deleted."""
        try:
            if not file.is_skipped:
                return [self._object(obstore.head(self._store, file.key))]
        except FileNotFoundError:
            return []
        except ValueError:
            pass
        escaped = (one if one.isprintable() else one.encode("unicode_escape").decode() for one in file.key)
        key = "".join(escaped)
        url = f"{self._folder}/{key}"
        return [StoredObject(url, key, None, None, 0, file.is_skipped, has_invalid_name=not file.is_skipped)]

    def _single_object(self) -> StoredObject:
        """Return the object that the URL names."""
        folder, _, name = self.url.rpartition("/")
        try:
            self._store = _open_store(folder)
            with self._reported(self.url):
                entry = obstore.head(self._store, name)
        except (FileNotFoundError, InvalidUsageSource):
            raise UsageSourceUnavailable(f"There are no objects at {self.url}.", field="url", value=self.url) from None
        self._folder, self._local_folder = folder, None  # the caller has named this file, link or not
        return self._object(entry)

    def _object(self, entry: Any) -> StoredObject:
        key = entry["path"]
        return StoredObject(
            f"{self._folder}/{key}", key, entry["e_tag"], entry["version"], entry["size"], self._is_outside(key)
        )

    def _is_outside(self, key: str) -> bool:
        return self._local_folder is not None and is_outside(self._local_folder, key)

    @contextmanager
    def _reported(self, url: str) -> Generator[None]:
        """Raise UsageSourceUnavailable for the errors of the store."""
        try:
            yield
        except (PreconditionError, FileNotFoundError):
            raise
        except (BaseError, OSError) as error:
            raise UsageSourceUnavailable(
                f"{url} can't be read: {first_line(error)}.", field="url", value=url
            ) from error


def _open_store(url: str) -> Any:
    """Return the store of a URL. Raise InvalidUsageSource."""
    return open_object_store(url, InvalidUsageSource, "url", f"{url!r} can't be used", _ADVICE)
