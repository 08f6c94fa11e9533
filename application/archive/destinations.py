"""The places where an archive can be stored: a folder or an object store."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol

from .layout import FOLDER


class StoredManifest(NamedTuple):
    """The content of the manifest, empty if there is none, and the version by which a store detects changes of it."""

    data: bytes
    version: object = None


class ConcurrentExport(Exception):
    """Another process added a segment or replaced the manifest since it was read."""


class Destination(Protocol):
    """A place where an archive is stored. Each method raises ArchiveUnavailable if the place can't be used."""

    @property
    def location(self) -> str:
        """Return the path or the URL, for messages."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Exclude other exports if the place has locks. Raise ArchiveInUse."""
        ...

    def read_manifest(self) -> StoredManifest:
        """Return the manifest."""
        ...

    def replace_manifest(self, data: bytes, previous: StoredManifest) -> None:
        """Replace the manifest, as a whole and durably. Raise ConcurrentExport if it isn't the previous one."""
        ...

    def file_names(self, folder: str = FOLDER) -> Iterable[str]:
        """Return the names of all files in a folder, that of segments by default, in any order."""
        ...

    def add_segment(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Store what `write` writes, durably, or nothing if it raises an error.

        Raise ConcurrentExport if there is a segment of this name.
        """
        ...

    def open_segment(self, name: str) -> BinaryIO:
        """Open a segment to read it. Raise FileNotFoundError."""
        ...

    def open_parts(self, name: str) -> BinaryIO:
        """Open a segment of which little is read, so that only that is loaded. Raise FileNotFoundError."""
        ...

    def delete_segment(self, name: str) -> None:
        """Delete a segment, if it exists."""
        ...

    def url(self, name: str) -> str:
        """Return the path or URL of a file, as other programs read it."""
        ...
