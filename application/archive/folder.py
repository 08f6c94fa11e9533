"""An archive in a folder. Files appear under their names when they are complete and on disk."""

import os
import stat
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...domain.errors import ArchiveInUse, ArchiveUnavailable, LedgerUnavailable
from ..storage.file_lock import file_lock
from ..storage.private_files import permissions_like, private_opener_without_links, sync_folder
from .destinations import StoredManifest
from .layout import FOLDER, MANIFEST, parse_segment_name

UNFINISHED = ".unfinished"
"""The suffix of a file that is being written, or was when its process ended."""
LOCK_TIMEOUT_SECONDS = 2


class FolderDestination:
    """A folder, which is created if it does not exist. A lock file excludes other exports."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def location(self) -> str:
        """Return the path."""
        return str(self.path)

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Hold the lock of the folder, and remove what an interrupted export has left. Raise ArchiveInUse."""
        with _reported(self.path):
            (self.path / FOLDER).mkdir(parents=True, exist_ok=True)
        try:
            with file_lock(str(self.path / ".export"), timeout_seconds=LOCK_TIMEOUT_SECONDS) as is_locked:
                if not is_locked:
                    raise ArchiveInUse(
                        f"Another process is exporting to {self.location}. Try again when it has finished.",
                        field="destination",
                        value=self.location,
                    )
                self._remove_unfinished()
                yield
        except LedgerUnavailable as error:
            if error.field != "url" or error.value != str(self.path / ".export"):
                raise
            raise ArchiveUnavailable(error.message, field="destination", value=self.location) from error

    def read_manifest(self) -> StoredManifest:
        """Return the manifest."""
        with _reported(self.path / MANIFEST):
            try:
                _require_regular(self.path / MANIFEST)
                return StoredManifest((self.path / MANIFEST).read_bytes())
            except FileNotFoundError:
                return StoredManifest(b"")

    def replace_manifest(self, data: bytes, previous: StoredManifest) -> None:  # noqa: ARG002 - the lock excludes others
        """Replace the manifest."""
        self._write(self.path / MANIFEST, lambda file: file.write(data))

    def file_names(self, folder: str = FOLDER) -> Iterable[str]:
        """Return the names of the files in a folder."""
        with _reported(self.path / folder):
            try:
                return [f"{folder}/{entry.name}" for entry in (self.path / folder).iterdir()]
            except FileNotFoundError:
                return []

    def add_segment(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Store what `write` writes."""
        path = self.path / name
        with _reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._write(path, write)

    def open_parts(self, name: str) -> BinaryIO:
        """Open a segment."""
        return self.open_segment(name)

    def open_segment(self, name: str) -> BinaryIO:
        """Open a segment."""
        try:
            _require_regular(self.path / name)
            return (self.path / name).open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unavailable(self.path / name, error) from error

    def delete_segment(self, name: str) -> None:
        """Delete a segment."""
        with _reported(self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def url(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.path / name)

    def _write(self, path: Path, write: Callable[[BinaryIO], object]) -> None:
        """Write a new file next to the path, then rename it. It is removed if an error is raised."""
        unfinished = path.with_name(path.name + UNFINISHED)
        with _reported(path):
            try:
                with open(unfinished, "wb", opener=private_opener_without_links) as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.chmod(permissions_like(self.path / MANIFEST))
                unfinished.rename(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            sync_folder(path.parent)

    def _remove_unfinished(self) -> None:
        with _reported(self.path):
            for path in (self.path / FOLDER).glob(f"*{UNFINISHED}"):
                if parse_segment_name(f"{FOLDER}/{path.name.removesuffix(UNFINISHED)}") is not None:
                    path.unlink()


@contextmanager
def _reported(path: Path) -> Generator[None]:
    """Raise ArchiveUnavailable for an error of the operating system."""
    try:
        yield
    except OSError as error:
        raise _unavailable(path, error) from error


def _require_regular(path: Path) -> None:
    """Raise ArchiveUnavailable for a pipe or a device: reading one might never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ArchiveUnavailable(f"{path} can't be used: it is not a file.", field="destination", value=str(path))


def _unavailable(path: Path, error: OSError) -> ArchiveUnavailable:
    message = f"{path} can't be used: {error.strerror or error}."
    return ArchiveUnavailable(message, field="destination", value=str(path))
